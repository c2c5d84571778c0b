"""All runs below a folder, as they go: python -m dsac.watch runs=runs"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dsac.cli.exit_codes import FINISHED, entered
from dsac.errors import ConfigError
from dsac.schema.overrides import key_values
from dsac.schema.ranges import at_least
from dsac.schema.validate import plain_value, read

HELP = """\
python -m dsac.watch [runs=runs] [once=false] [seconds=2] [--json]

Shows every run at or below the folder `runs`, whoever started it: its evaluations as a small curve, env steps of its
budget, rates, time left, last evaluation, and whether it is training, finished, stopped or failed, and why. Nothing is
written, and a run is read again only where its files changed. Ctrl-C ends it; the runs go on.

runs     a folder
once     true prints one table of all runs, and ends; so does --json, as JSON
seconds  between two looks; where there is no terminal a line for each run in training comes every ten seconds
exit     0, or 2 for usage: no such folder, or with once=true no run in it

  python -m dsac.watch runs=runs/Humanoid
  python -m dsac.watch runs=runs once=true
"""


@dataclass(frozen=True)
class WatchConfig:
    """The settings of this command."""

    runs: str = "runs"
    once: bool = False
    seconds: float = at_least(2.0, 0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(arguments, HELP, watch)


def parse(overrides: Sequence[str]) -> WatchConfig:
    """key=value overrides -> config. Raises ConfigError."""
    problems: list[str] = []
    pairs = key_values(overrides, problems, one_run=False, known=[item.name for item in fields(WatchConfig)])
    tree = {key: value if key == "runs" else plain_value(value) for key, value in pairs}
    values = read(WatchConfig, tree, "", problems)
    if problems:
        raise ConfigError(*problems)
    return WatchConfig(**values)


def watch(arguments: Sequence[str]) -> int:
    """Look once, or again and again until Ctrl-C; the exit code. Raises ConfigError."""
    from dsac.watch.folder import Folder
    from dsac.watch.view import LiveView, print_table

    config = parse([argument for argument in arguments if argument != "--json"])
    root = Path(config.runs).expanduser()
    if not root.is_dir():
        raise ConfigError(f"runs={config.runs}: no such folder")
    folder = Folder(root)
    if config.once or "--json" in arguments:
        runs = folder.look()
        if not runs:
            raise ConfigError(f"runs={config.runs}: no run at or below it")
        if "--json" in arguments:
            print(json.dumps({"runs": [run.facts() for run in runs]}))
        else:
            print_table(runs)
        return FINISHED
    try:
        folder.look()
        with LiveView() as view:
            while True:
                view.show(folder.look())
                time.sleep(config.seconds)
    except KeyboardInterrupt:
        return FINISHED
