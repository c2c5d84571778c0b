"""The words of python -m dsac.export, checked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dsac.errors import ConfigError
from dsac.schema.overrides import key_values
from dsac.schema.ranges import at_least, choice, positive
from dsac.schema.validate import plain_value, read

FORMATS = ("onnx", "c", "torchscript")
AS_TYPED = ("run", "out", "format", "batch", "safe_action")  # words, also where they look like a number or a list


@dataclass(frozen=True)
class Request:
    """What to export. docs/deploy.md says what each field does."""

    run: str
    which: str = choice("best", "best", "last")
    learner: int = at_least(0, 0)
    format: str = "onnx,c"
    batch: str = choice("1", "1", "dynamic")
    out: str | None = None
    safe_action: str | None = None
    obs_abs_max: float = positive(1e6)
    episodes: int = at_least(20, 0)
    rows: int = at_least(4096, 256)
    seed: int = at_least(1_000_000, 0)
    risk: bool = False

    @property
    def formats(self) -> list[str]:
        """The formats, each once, in the order of FORMATS. Raises ConfigError for an unknown one."""
        given = [word.strip() for word in self.format.strip("[]").split(",")]
        for word in given:
            if word not in FORMATS:
                near = difflib.get_close_matches(word, FORMATS, 1)
                hint = f": did you mean {near[0]}?" if near else ""
                raise ConfigError(f"format={self.format}: {word!r} is none of {', '.join(FORMATS)}{hint}")
        return [word for word in FORMATS if word in given]

    @property
    def folder(self) -> Path:
        """Where the export goes. Raises ConfigError where something else stands there."""
        folder = Path(self.out) if self.out else Path(self.run) / f"learner-{self.learner}" / f"export-{self.which}"
        empty = folder.is_dir() and not any(folder.iterdir())
        if folder.exists() and not empty and not (folder / "policy.json").is_file():
            raise ConfigError(f"out={folder} exists and is no export: name a new folder")
        return folder


def parse(words: Sequence[str]) -> Request:
    """key=value words -> a request. Raises ConfigError with all that is wrong."""
    problems: list[str] = []
    pairs = key_values(words, problems, one_run=False, known=[item.name for item in fields(Request)])
    tree: dict[str, Any] = {key: value if key in AS_TYPED else plain_value(value) for key, value in pairs}
    tree = {key: None if value == "null" else value for key, value in tree.items()}
    values = read(Request, tree, "", problems)
    if problems:
        raise ConfigError(*problems)
    request = Request(**values)
    if request.risk and "onnx" not in request.formats:
        raise ConfigError(f"risk=true writes risk.onnx beside policy.onnx, and format={request.format} has none")
    return request
