"""The evaluations of runs, read from run folders or from a folder that was made of them to be committed.

A committed folder holds `evaluations.csv`, one evaluation a row, and `runs.json`, what each run was: its settings,
versions and rates. What is read from either is the same. Folders may come from anyone: one that is odd is left out and
named, and the others are compared.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import envs
from dsac.cli.progress import following
from dsac.errors import ConfigError, FileError
from dsac.runs.run_files import (
    CRITICS,
    CURVES,
    DEFECT,
    SESSION,
    critics_of,
    curves_of,
    disordered,
    facts_of,
    settings_of,
    unfit,
)
from dsac.schema.files import read_json, read_lines
from dsac.schema.plain_data import misfit
from dsac.schema.ranges import MACHINE, RECORD, SAMPLE
from dsac.schema.run_config import of_kind

CALIBRATION = "calibration.json"
EVALUATIONS, RUNS = "evaluations.csv", "runs.json"
COLUMNS = ("run", *CURVES)
FORMAT = 1
LARGEST_COMMITTED = 1 << 28  # bytes
# What neither moves returns nor how they are measured; the seed is what runs of a group differ in.
NO_MATTER = (*of_kind(SAMPLE, MACHINE, RECORD), "resume")
# Exit codes (dsac.cli.exit_codes) that say something of what was run, and those of a run that may go on.
DIVERGED = 4
FAILURES = {DEFECT: "a defect ended it", 3: "its environment failed", DIVERGED: "its numbers were no longer finite"}
NO_FAULT = (0, 75)
QUIET_SECONDS = 2.0
ENTRY = {
    "name": str, "learner": int, "seed": int, "settings": str, "facts": {**SESSION, "ended?": None},
    "rates": {str: float}, "calibration": (CRITICS, None), "critics?": {str: float}, "frozen_at?": (float, None),
    "exit_code?": int, "ended_at?": float,
}  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """The evaluations of one seed; none where it failed before the first.

    name         <time>-seed<seed>/learner-<i>
    folder       the run folder; None where the run was read from a committed folder
    settings     the config with dotted keys
    facts        task, versions, revision, device, processor, cores and threads of the newest session
    rates        median env steps and updates a second of one learner, where they were logged
    env_steps, updates, wall_time, returns  (K,), in env steps, gradient steps, seconds and the task's reward
    calibration  what dsac.compare.calibration found, where it was asked
    critics      the newest figures that eval.calibration=true wrote while the run trained
    frozen_at    env steps at which a learner whose numbers were no longer finite was taken out of training
    exit_code    how the newest session ended; None while it goes on, and where it was killed
    ended_at     env steps at which it did
    failure      why it failed, which counts against it; None for a run that did not, or not yet
    """

    name: str
    folder: Path | None
    learner: int
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    rates: Mapping[str, float]
    env_steps: Array
    updates: Array
    wall_time: Array
    returns: Array
    calibration: Mapping[str, Any] | None = None
    critics: Mapping[str, float] = field(default_factory=dict)
    frozen_at: float | None = None
    exit_code: int | None = None
    ended_at: float = 0.0
    failure: str | None = None

    @property
    def seed(self) -> int:
        return int(self.settings["seed"]) + self.learner

    @property
    def algorithm(self) -> str:
        return str(self.settings["algo.name"])

    @property
    def env(self) -> str:
        """The task with its version: Humanoid-v5, the Gymnasium id, or the id of a task of one's own.

        Of a run from before run.json told that id, the module.
        """
        name = str(self.settings["env.name"])
        if name in envs.TASKS:
            return envs.resolve(name)
        return str(self.settings["env.id"] or self.facts.get("task") or self.settings.get("env.task"))

    @property
    def finished(self) -> bool:
        return bool(len(self.env_steps) and self.env_steps[-1] >= self.settings["total_env_steps"])

    @property
    def ending(self) -> str:
        """How a run ended for reasons that count neither for nor against it: " (it ended with exit 5)"."""
        return "" if self.exit_code in (None, *NO_FAULT) else f" (it ended with exit {self.exit_code})"


def judged(run: Run) -> Run:
    """A run with its failure, if it ended with one: before its last evaluation, or with numbers that are not finite."""
    if run.exit_code not in FAILURES or (run.finished and run.exit_code != DIVERGED):
        return run
    return dataclasses.replace(run, failure=FAILURES[run.exit_code])


def read(places: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every run at or below some folders, each once, and a line for each that is left out: odd, or without evaluation.

    Raises ConfigError where there is no run.
    """
    runs: dict[tuple[str, bytes], Run] = {}
    remarks: list[str] = []
    for place in places:
        before = len(remarks)
        folders = list(folders_of_runs(place))
        found: list[Run] = []
        for folder in following("reading runs", folders, len(folders), quiet_seconds=QUIET_SECONDS):
            try:
                committed = (folder / EVALUATIONS).exists()
                found += read_committed(folder) if committed else read_folder(folder, remarks)
            except (ConfigError, FileError) as error:
                reason = " ".join(str(error).split()).replace(f"{folder}{os.sep}", "")
                remarks.append(f"{folder.name}: left out, {reason}")
        if not found:
            problem = "no such folder" if not place.is_dir() else "no run with an evaluation at or below it"
            raise ConfigError(f"runs={place}: {problem}", *remarks[before:])
        runs = {(run.name, run.returns.tobytes()): run for run in found} | runs
    return list(runs.values()), remarks


def folders_of_runs(place: Path) -> Iterator[Path]:
    """The folders at or below a place that hold a run, or committed evaluations, in order; what is in a run is not
    looked through.
    """
    for folder, names, files in os.walk(place):
        names.sort()
        a_run = "config.yaml" in files and any(name.startswith("learner-") for name in names)
        if a_run or EVALUATIONS in files:
            yield Path(folder)
        if a_run:
            names.clear()


def read_folder(folder: Path, remarks: list[str]) -> list[Run]:
    """The learners of a run folder, those without an evaluation named. Raises ConfigError, FileError."""
    settings, (facts, exit_code, ended_at) = settings_of(folder), facts_of(folder)
    runs = []
    for learner, path in learners_of(folder, settings, remarks):
        curves, rates, frozen_at, critics = curves_of(path)
        run = Run(
            name=f"{folder.resolve().name}/{path.parent.name}",
            folder=folder,
            learner=learner,
            settings=settings,
            facts=facts,
            rates=rates,
            **curves,
            calibration=critics_of(path.with_name(CALIBRATION)),
            critics=critics,
            frozen_at=frozen_at,
            exit_code=exit_code,
            ended_at=ended_at,
        )
        run = judged(run)
        if len(run.returns) or run.failure:
            runs.append(run)
        else:
            remarks.append(f"{folder.name}, {path.parent.name}: no evaluation yet, left out{run.ending}")
    return runs


def learners_of(folder: Path, settings: Mapping[str, Any], remarks: list[str]) -> list[tuple[int, Path]]:
    """The learners of a run and their metrics.csv, where there is one; folders of other names are named."""
    found = []
    for path in folder.glob("learner-*"):
        number = path.name.removeprefix("learner-")
        if not (number.isascii() and number.isdecimal() and str(int(number[:9])) == number):
            remarks.append(f"{folder.name}, {path.name}: left out, no learner has such a name")
        elif int(number) >= settings.get("learners", 1):
            remarks.append(f"{folder.name}, {path.name}: left out, the run has no such learner")
        elif os.path.lexists(path / "metrics.csv"):
            found.append((int(number), path / "metrics.csv"))
    return sorted(found)


def numbers(fields: Sequence[str], path: Path) -> list[float]:
    """Fields of an evaluation as numbers. Raises ConfigError where one is none, or not finite."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if len(values) != len(COLUMNS) or not all(map(math.isfinite, values)):
        raise ConfigError(f"{path}: the row {','.join(fields)[:80]} holds something that is not a finite number")
    return values


def write_committed(folder: Path, runs: Sequence[Run]) -> None:
    """Write runs as a folder to commit: no weights, no paths of this machine, settings once for all of their seeds."""
    settings: dict[str, dict[str, Any]] = {}
    entries = []
    for run in runs:
        kept = {key: portable(key, value) for key, value in run.settings.items() if key not in ("seed", "runs")}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
        settings[digest] = kept
        entries.append(
            {
                "name": run.name,
                "learner": run.learner,
                "seed": run.settings["seed"],
                "settings": digest,
                "facts": run.facts,
                "rates": run.rates,
                "calibration": run.calibration,
                **({"critics": run.critics} if run.critics else {}),
                "frozen_at": run.frozen_at,
                **({"exit_code": run.exit_code, "ended_at": run.ended_at} if run.failure else {}),
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUNS).write_text(
        "\n".join(
            [
                f'{{"format": {FORMAT}, "settings": {{',
                ",\n".join(f'"{digest}": {json.dumps(kept)}' for digest, kept in settings.items()),
                '}, "runs": [',
                ",\n".join(map(json.dumps, entries)),
                "]}\n",
            ]
        )  # a line for each, so that a diff shows which run changed
    )
    with (folder / EVALUATIONS).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for index, run in enumerate(runs):
            for env_steps, updates, wall_time, score in zip(
                run.env_steps, run.updates, run.wall_time, run.returns, strict=True
            ):
                table.writerow([index, int(env_steps), int(updates), f"{wall_time:.2f}", repr(float(score))])


def portable(key: str, value: Any) -> Any:
    """A setting without the folders of this machine."""
    return "/".join(Path(value).parts[-3:]) if key == "init_from" and value is not None else value


def read_committed(folder: Path) -> list[Run]:
    """The runs of a committed folder. Raises ConfigError, FileError where it is damaged."""
    path, settings_path = folder / EVALUATIONS, folder / RUNS
    document = read_json(settings_path, LARGEST_COMMITTED)
    if problem := misfit(document, {"format": int, "settings": {str: dict}, "runs": [ENTRY]}):
        raise ConfigError(f"{folder} is no folder of committed evaluations: {RUNS}: {problem}")
    if document["format"] != FORMAT:
        raise ConfigError(f"{settings_path}: format {document['format']}, this version reads {FORMAT}")
    header, *rows = csv.reader(read_lines(path))
    if tuple(header) != COLUMNS:
        raise ConfigError(f"{path}: the columns are {','.join(header)[:80]}, not {','.join(COLUMNS)}")
    table = np.array([numbers(row, path) for row in rows]).reshape(-1, len(COLUMNS))
    runs = []
    for index, entry in enumerate(document["runs"]):
        curves = dict(zip(CURVES, table[table[:, 0] == index, 1:].T, strict=True))
        settings = {**document["settings"].get(entry.pop("settings"), {}), "seed": entry.pop("seed")}
        known = {key: value for key, value in entry.items() if key in ENTRY or f"{key}?" in ENTRY}
        run = judged(Run(folder=None, settings=settings, **known, **curves))
        problem = (
            unfit(settings)
            or disordered(run.env_steps)
            or (None if len(run.returns) or run.failure else "no evaluation")
        )
        if problem:
            raise ConfigError(f"{settings_path}: {run.name[:80]!r}: {problem}")
        runs.append(run)
    return runs
