"""Compare runs: python -m dsac.compare runs=runs/Humanoid

From Python: dsac.compare("runs/Humanoid").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from dsac.cli.exit_codes import FINISHED, entered
from dsac.cli.progress import following
from dsac.compare import calibration, cells, comparison, figures, results, tables
from dsac.compare.comparison import Comparison
from dsac.compare.page import report
from dsac.compare.results import Run
from dsac.compare.scores import AXES
from dsac.config import refuse_shadowed_envs
from dsac.errors import ConfigError
from dsac.schema import plain_text
from dsac.schema.importing import OF_ENV
from dsac.schema.overrides import key_values, split_off
from dsac.schema.plain_text import printable
from dsac.schema.ranges import at_least, choice
from dsac.schema.validate import as_word, command, plain_value, read

HELP = """\
python -m dsac.compare runs=<folder>[,<folder> ...] [key=value ...] [--json]

Tables, curves and a report of all runs at or below the folders: run folders, or folders made by commit=.

by=env_steps          the x axis of curves and areas: env_steps, updates or wall_time
until=<env steps>     compare what there is up to here, also of unfinished runs
threshold=<return>    time to reach it; <task>:<return>,... for several tasks; default 90% of the way to the best
reference=paper       the returns that the DSAC-T paper reports beside ours
curves=true           curves and performance profile as PNG and SVG (extra "compare"); default where it is installed
calibration=true      what the critics predict against what the policies then earn, from the newest checkpoints
report=true           all of it in one HTML page (extra "compare"), with films of the best policies (films=false: none)
commit=<folder>       write evaluations and settings small enough for a repository; compare reads that folder back
out=outputs/compare   where the files go

A run that imports a module of your own wants it named again for films and calibration:
env.task=<module>, env.id=<module>:<name> or env.wrappers=[<module>:<class>].
"""
TEXT = ("runs", "out", "commit", "threshold")
TABLES, NUMBERS = "tables.md", {"scores.csv": "summaries", "pairs.csv": "pairs", "all-tasks.csv": "overall"}


@dataclass(frozen=True)
class CompareConfig:
    """The words of this command."""

    runs: str
    by: str = choice("env_steps", *AXES)
    until: int | None = at_least(None, 1)
    threshold: str | None = None
    reference: str = choice("none", "none", "paper")
    curves: bool | None = None
    calibration: bool = False
    report: bool = False
    films: bool = True
    commit: str | None = None
    out: str = "outputs/compare"


DEFAULTS = {field.name: field.default for field in fields(CompareConfig)}


def compare(runs: Path | str | Sequence[Path | str], **settings: Any) -> dict[str, Any]:
    """Compare runs with the keys of the command line: compare("runs/Humanoid", by="updates").

    Returns what --json prints. Raises ConfigError with all that is wrong.
    """
    refuse_shadowed_envs()
    places = [runs] if isinstance(runs, str | Path) else runs
    words = {"runs": ",".join(map(str, places)), **settings}
    return start([as_word(key, value) for key, value in words.items()], quiet=True)


def parse(words: Sequence[str]) -> CompareConfig:
    """key=value words -> config. Raises ConfigError."""
    problems: list[str] = []
    pairs = key_values(words, problems, one_run=False, known=[item.name for item in fields(CompareConfig)])
    tree = {key: value if key in TEXT else plain_value(value) for key, value in pairs}
    values = read(CompareConfig, tree, "", problems)
    if problems:
        raise ConfigError(*problems)
    return CompareConfig(**values)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(words, HELP, show)


def show(words: Sequence[str]) -> int:
    """Compare and print."""
    as_json = "--json" in words
    report = start([word for word in words if word != "--json"], quiet=as_json)
    if as_json:
        print(json.dumps(report))
    return FINISHED


def start(words: Sequence[str], quiet: bool = False) -> dict[str, Any]:
    """Check the words, read, compute, write; a report of plain values."""
    named, others = split_off(words, *OF_ENV, "algo")
    config = parse(others)
    drawn = figures.installed() if config.curves is None else config.curves
    if drawn:
        figures.check()
    if config.report:
        report.check()
    runs, remarks = results.read([Path(place) for place in config.runs.split(",") if place])
    if config.calibration:
        runs = list(following("calibration", calibration.measured(runs, named, remarks), len(runs)))
    found = comparison.compare(runs, config.by, config.until, config.threshold)
    found = replace(found, remarks=[*remarks, *found.remarks])
    return print_summary(config, named, runs, found, drawn, quiet)


def print_summary(
    config: CompareConfig,
    modules: Mapping[str, str],
    runs: Sequence[Run],
    found: Comparison,
    drawn: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Write what was asked for, say what was found and where it is; what --json prints."""
    critics = [row for row in map(calibration.summarise, found.groups) if row is not None]
    every = tables.all_tables(found, critics, config.reference == "paper")
    answers = [tables.answer(env, *found.of(env)) for env in found.tasks]
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    remarks = [f"- {plain_text.markdown(remark)}\n" for remark in found.remarks]
    (out / TABLES).write_text("\n".join([*map(cells.markdown, every), *remarks]))
    numbers = {name: getattr(found, part) for name, part in NUMBERS.items()} | {"critics.csv": critics}
    files = [out / TABLES]
    for name, lines in numbers.items():
        if lines:
            (out / name).write_text(cells.as_csv(lines))
            files.append(out / name)
    if drawn:
        files += figures.draw(found, critics, out)
    if config.report:
        words = {key: value for key, value in asdict(config).items() if value != DEFAULTS.get(key)} | dict(modules)
        files.append(report.write(out / "report.html", found, critics, config.reference == "paper", words, modules))
    if config.commit:
        used = {run.name for group in found.groups for run in group.runs}
        results.write_committed(Path(config.commit), [run for run in runs if run.name in used])
    if not quiet:
        print("\n".join([*map(cells.screen, every), *(printable(line) for lines in answers for line in lines), ""]))
        for remark in found.remarks:
            print(f"note: {printable(remark)}")
        if config.curves is None and not drawn:
            print(f"note: {figures.MISSING_EXTRA}")
        print(f"written to {out}: {', '.join(path.name for path in files)}")
        if config.commit:
            print(f"committed form in {config.commit}: {command('compare', [f'runs={config.commit}'])}")
        elif not config.report:
            print(f"next: {command('compare', [f'runs={config.runs}', 'report=true'])}")
    return {
        "answers": answers,
        "scores": [plain(asdict(row)) for row in found.summaries],
        "pairs": [plain(asdict(row) | {"verdict": row.verdict}) for row in found.pairs],
        "all_tasks": [plain(asdict(row)) for row in found.overall],
        "critics": [plain(asdict(row)) for row in critics],
        "remarks": list(found.remarks),
        "files": [str(path) for path in files],
    }


def plain(value: Any) -> Any:
    """Numbers that JSON has no word for as null."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
