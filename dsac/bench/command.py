"""What this machine does: python -m dsac.bench envs tasks=HalfCheetah,Humanoid worlds=1,20 --json"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from dsac.errors import ConfigError
from dsac.schema.overrides import key_values
from dsac.schema.plain_text import on_screen
from dsac.schema.validate import plain_value, read

VERBS = {
    "update": "dsac.bench.updates",
    "replay": "dsac.bench.replay",
    "envs": "dsac.bench.environments",
    "train": "dsac.bench.training",
    "collect": "dsac.bench.collection",
}
HELP = """\
python -m dsac.bench <verb> [key=value ...] [--json]

Each verb prints a table, or with --json its report; --help after a verb lists its keys.
"""


def parse(schema: type[Any], words: Sequence[str]) -> Any:
    """key=value words -> a verb's config, lists with commas. Raises ConfigError."""
    problems: list[str] = []
    pairs = key_values(words, problems, one_run=False)
    lists = {field.name for field in dataclasses.fields(schema) if isinstance(field.default, tuple)}
    tree = {key: plain_value(f"[{value}]" if key in lists else value) for key, value in pairs}
    values: dict[str, Any] = {} if problems else read(schema, tree, "", problems)
    if problems:
        raise ConfigError(*problems)
    return schema(**values)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    verb, *rest = [*(sys.argv[1:] if words is None else words), ""]
    rest = [word for word in rest if word]
    if verb not in VERBS:
        print(HELP + f"\nVerbs: {', '.join(VERBS)}")
        return 0 if verb in ("", "--help", "-h") else 2
    module = import_module(VERBS[verb])
    if "--help" in rest or "-h" in rest:
        print(module.HELP)
        return 0
    try:
        report = module.measure(parse(module.Config, [word for word in rest if word != "--json"]))
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {on_screen(problem)}", file=sys.stderr)
        return 2
    print(json.dumps(report) if "--json" in rest else module.table(report))
    return 0
