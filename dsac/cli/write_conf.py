"""conf/train.yaml and conf/algo/*.yaml, made from the settings' own fields: python -m dsac.cli.write_conf

A default, its range and its help stand in its field and nowhere else. Change them there, then run this.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from dsac.algorithms import load, names
from dsac.config import conf_folder
from dsac.schema.ranges import rules_of
from dsac.schema.run_config import SECTIONS, CommandConfig, EnvConfig, TrainConfig

COLUMN = 40  # where the help begins
TRAIN = """\
# Every setting of a run, with its default. Set any on the command line: key=value, or section.key=value.
# Written by python -m dsac.cli.write_conf from dsac/schema/run_config.py: change a default there.
defaults:
  - _self_
  - algo: dsac_t                        # one of conf/algo, or the import path of a module of yours
  - env: Humanoid                       # one of conf/env

"""
ALGORITHM = (
    "Written by python -m dsac.cli.write_conf from dsac/algorithms/{name}.py and "
    "dsac/schema/algorithm_config.py: change a default there."
)


def conf_files() -> dict[Path, str]:
    """The files that this module writes, and what each has to hold."""
    files = {conf_folder() / "train.yaml": TRAIN + "".join(train_lines())}
    for name in names():
        schema = load(name).Config
        head = [*inspect.cleandoc(str(schema.__doc__)).splitlines(), ALGORITHM.format(name=name)]
        text = "".join(f"# {line}\n" for line in head if line) + "".join(lines_of(schema))
        files[conf_folder() / "algo" / f"{name}.yaml"] = text
    return files


def train_lines() -> Iterator[str]:
    """The lines of conf/train.yaml below its head."""
    yield from lines_of(TrainConfig)
    yield from lines_of(CommandConfig)
    yield "env:\n"
    yield from lines_of(EnvConfig, "  ")


def lines_of(schema: type[Any], indent: str = "") -> Iterator[str]:
    """The settings of a dataclass that have a default, a line each, and its sections, if it has any."""
    rules = rules_of(schema)
    for field in dataclasses.fields(schema):
        if field.default is not dataclasses.MISSING:
            setting = f"{indent}{field.name}: {yaml_text(field.default)}"
            yield f"{setting.ljust(COLUMN - 1)} # {rules[field.name]['help']}\n"
        elif field.default_factory is not dataclasses.MISSING:
            yield f"{indent}{field.name}:\n"
            yield from lines_of(SECTIONS[field.name], f"{indent}  ")


def yaml_text(value: Any) -> str:
    """A default as one would type it into a yaml: 1_000_000, 1e-4, [256, 256], null."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{Decimal(repr(value)).normalize():e}"
    return str(list(value) if isinstance(value, tuple) else value)


def main() -> None:
    """Write the files that are not as they have to be, and name them."""
    for path, text in conf_files().items():
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(f"written: {path}")


if __name__ == "__main__":
    main()
