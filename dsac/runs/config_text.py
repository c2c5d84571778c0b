"""The text of a config.yaml as a plain tree: quickly where it is as dsac writes it, otherwise by the yaml library.

A folder may hold thousands of runs, and the library takes ten milliseconds for each.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from dsac.schema.files import LARGEST_YAML, read_text, read_yaml
from dsac.schema.plain_data import parse_yaml

# A line without quotes, comments and other signs: a section or a list begins, a setting, an entry of a list.
SCALAR = r"[\w./~+-]+(?: [\w./~+-]+)*"
LINE = re.compile(rf"(?P<indent>  )?(?:(?P<key>[a-z]\w*):(?: (?P<value>{SCALAR}))?|- (?P<entry>{SCALAR}))", re.ASCII)


def read_config(path: Path) -> Any:
    """The plain data in a config.yaml. Raises FileError."""
    try:
        return tree_of_lines(read_text(path, LARGEST_YAML))
    except ValueError:
        return read_yaml(path)


def tree_of_lines(text: str) -> dict[str, Any]:
    """A tree of settings, lists and sections of them. Raises ValueError for a text that is anything more."""
    tree: dict[str, Any] = {}
    section: dict[str, Any] | None = None
    entries: list[Any] | None = None
    begun: tuple[dict[str, Any], str, int] | None = None  # what has its value on the next lines: where, key and depth
    list_depth = 0
    for line in text.removesuffix("\n").split("\n"):
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"not a plain line: {line[:80]!r}")
        depth = 1 if found["indent"] else 0
        if found["entry"] is not None:
            if begun is not None:
                (mapping, key, list_depth), begun, entries = begun, None, []
                mapping[key] = entries
            if entries is None or depth != list_depth:
                raise ValueError(f"not in a list: {line[:80]!r}")
            entries.append(scalar(found["entry"]))
            continue
        if begun is not None:
            mapping, key, above = begun
            if above or not depth:
                raise ValueError(f"{key} has no value")
            mapping[key] = section = {}
        elif not depth:
            section = None
        here = section if depth else tree
        if here is None or found["key"] in here:
            raise ValueError(f"out of place: {line[:80]!r}")
        here[found["key"]] = None if found["value"] is None else scalar(found["value"])
        begun, entries = (here, found["key"], depth) if found["value"] is None else None, None
    if begun is not None:
        raise ValueError(f"{begun[1]} has no value")
    return tree


@functools.lru_cache(4096)
def scalar(text: str) -> Any:
    """A value as the yaml library has it; thousands of configs have few different ones."""
    value = parse_yaml(f"x: {text}")["x"]
    if isinstance(value, list | dict):
        raise ValueError(f"not a plain value: {text[:80]!r}")
    return value
