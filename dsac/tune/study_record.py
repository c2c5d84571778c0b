"""study.json: what a study was asked, so that the same command continues it and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsac.errors import ConfigError, FileError
from dsac.persistence import atomic
from dsac.schema import files
from dsac.schema.plain_data import misfit
from dsac.schema.run_config import NOT_OF_A_RUN
from dsac.schema.validate import flat, shown

RECORD = "study.json"
FORM = {
    "decides": {"settings": dict, "space": {str: dict}, "seeds": [int], "sampler": str, "pruner": str},
    "words": [str],
    "command": str,
}
DECIDE_NOTHING = [f"settings.{key}" for key in NOT_OF_A_RUN]  # earlier releases noted some


def remember(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep what a study was asked; ConfigError with all that differs from what it was asked before."""
    path = folder / RECORD
    if not files.mode_of(path):
        atomic.write_text(path, json.dumps(record, indent=2) + "\n")
        return
    before, now = (flat(json.loads(json.dumps(one))["decides"]) for one in (recorded(folder), record))
    lines = [
        f"study={folder.name} has {key}={value_text(before, key)}, this command {value_text(now, key)}"
        for key in dict.fromkeys((*before, *now))
        if before.get(key, ...) != now.get(key, ...) and key not in DECIDE_NOTHING
    ]
    if lines:
        raise ConfigError(*lines, "another study= begins anew; the folder of this one is " + str(folder))


def value_text(values: Mapping[str, Any], key: str) -> str:
    """A value of a record in words."""
    return shown(values[key]) if key in values else "nothing"


def recorded(folder: Path) -> dict[str, Any]:
    """What a study was asked. Raises ConfigError where there is none, FileError where it cannot be read."""
    path = folder / RECORD
    if not files.mode_of(path):
        near = sorted(path.parent.name for path in folder.parent.glob(f"*/{RECORD}"))
        known = f"known are {', '.join(near)}" if near else f"there is none in {folder.parent}"
        raise ConfigError(f"study={folder.name}: {known}")
    record = files.read_json(path)
    if wrong := misfit(record, FORM):
        raise FileError(f"{path}: {wrong}")
    return dict(record)
