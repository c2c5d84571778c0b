"""The evaluations of runs, read from run folders or from a folder that was made of them to be committed.

A committed folder holds `evaluations.csv`, one evaluation a row, and `runs.json`, what each run was: its settings,
versions and rates. What is read from either is the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import envs
from dsac.config import ConfigError
from dsac.fields import MACHINE, RECORD, SAMPLE
from dsac.saved_config import saved
from dsac.settings import of_kind
from dsac.strict import flat

SCORE, FROZEN = "eval/return", "train/frozen"
RATES = {"env_steps": "rate/env_steps_per_second", "updates": "rate/updates_per_second"}
CALIBRATION = "calibration.json"
EVALUATIONS, RUNS = "evaluations.csv", "runs.json"
CURVES = ("env_steps", "updates", "wall_time", "returns")
COLUMNS = ("run", *CURVES)
FACTS = ("versions", "git_revision", "device", "cpu", "cores", "threads")
FORMAT = 1
# What neither moves returns nor how they are measured; the seed is what runs of a group differ in.
NO_MATTER = (*of_kind(SAMPLE, MACHINE, RECORD), "resume")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """The evaluations of one seed.

    name         <time>-seed<seed>/learner-<i>
    folder       the run folder; None where the run was read from a committed folder
    settings     the config with dotted keys
    facts        versions, revision, device, processor, cores and threads of the newest sitting
    rates        median env steps and updates a second of one learner, where they were logged
    env_steps, updates, wall_time, returns  (K,), in env steps, gradient steps, seconds and the task's reward
    calibration  what dsac.calibration found, where it was asked
    frozen_at    env steps at which a learner whose numbers were no longer finite was taken out of training
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
    frozen_at: float | None = None

    @property
    def seed(self) -> int:
        return int(self.settings["seed"]) + self.learner

    @property
    def algorithm(self) -> str:
        return str(self.settings["algo.name"])

    @property
    def env(self) -> str:
        """The task with its version: Humanoid-v5, the Gymnasium id, or the module of a task of one's own."""
        name = str(self.settings["env.name"])
        return envs.resolve(name) if name in envs.TASKS else str(self.settings["env.id"] or self.settings["env.task"])

    @property
    def finished(self) -> bool:
        return bool(self.env_steps[-1] >= self.settings["total_env_steps"])


def read(places: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every run at or below some folders, each once, and a line for each that has no evaluation yet.

    Raises ConfigError where there is no run, or a file cannot be read.
    """
    runs: dict[tuple[str, bytes], Run] = {}
    remarks: list[str] = []
    for place in places:
        found = [*read_committed(place), *read_folders(place, remarks)]
        if not found:
            problem = "no such folder" if not place.is_dir() else "no run with an evaluation at or below it"
            raise ConfigError(f"runs={place}: {problem}")
        runs = {(run.name, run.returns.tobytes()): run for run in found} | runs
    return list(runs.values()), remarks


def read_folders(place: Path, remarks: list[str]) -> list[Run]:
    """The runs whose folders lie at or below a folder."""
    runs = []
    for config in sorted(place.rglob("config.yaml")):
        learners = sorted(config.parent.glob("learner-*/metrics.csv"), key=lambda path: learner_of(path.parent))
        if not learners:
            continue
        settings, facts = flat(saved(config.parent, {}, uses=())), read_facts(config.parent)
        for path in learners:
            run = read_learner(path, config.parent, settings, facts)
            if run is None:
                remarks.append(f"{config.parent.name}, {path.parent.name}: no evaluation yet, left out")
            else:
                runs.append(run)
    return runs


def learner_of(folder: Path) -> int:
    """3 for learner-3."""
    return int(folder.name.removeprefix("learner-"))


def read_facts(folder: Path) -> dict[str, Any]:
    """What run.json says of the newest sitting. Raises ConfigError where it cannot be read."""
    try:
        sittings = json.loads((folder / "run.json").read_text())["sittings"]
        facts = {key: sittings[-1].get(key) for key in FACTS}
        simulators = [sitting["versions"]["mujoco"] for sitting in sittings]
        facts["versions"]["mujoco"] = " then ".join(dict.fromkeys(simulators))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / 'run.json'} says not what made the run: {error!r}") from error
    return facts


def read_learner(path: Path, folder: Path, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> Run | None:
    """The evaluations in a learner's metrics.csv; None without one. Raises ConfigError for a row that is none."""
    tags = (SCORE, FROZEN, *RATES.values())
    rows: dict[str, list[list[float]]] = {tag: [] for tag in tags}
    with path.open(newline="") as file:
        for line in file:
            if any(f",{tag}," in line for tag in tags):
                fields = line.rstrip("\n").split(",")
                rows[fields[3]].append(numbers([*fields[:3], fields[4]], path))
    if not rows[SCORE]:
        return None
    calibration = path.with_name(CALIBRATION)
    env_steps, updates, wall_time, returns = np.array(rows[SCORE]).T
    return Run(
        name=f"{folder.resolve().name}/{path.parent.name}",
        folder=folder,
        learner=learner_of(path.parent),
        settings=settings,
        facts=facts,
        rates={key: statistics.median(row[3] for row in rows[tag]) for key, tag in RATES.items() if rows[tag]},
        env_steps=env_steps,
        updates=updates,
        wall_time=wall_time,
        returns=returns,
        calibration=json.loads(calibration.read_text()) if calibration.is_file() else None,
        frozen_at=next((row[0] for row in rows[FROZEN] if row[3] > 0), None),
    )


def numbers(fields: Sequence[str], path: Path) -> list[float]:
    """Fields of an evaluation as numbers. Raises ConfigError where one is none, or not finite."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ConfigError(f"{path}: the row {','.join(fields)} holds something that is not a finite number")
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
                "frozen_at": run.frozen_at,
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


def read_committed(place: Path) -> list[Run]:
    """The runs of the committed folders at or below a folder. Raises ConfigError where one is damaged."""
    runs = []
    for path in sorted(place.rglob(EVALUATIONS)):
        try:
            document = json.loads((path.parent / RUNS).read_text())
            if document["format"] != FORMAT:
                raise ConfigError(f"{path.parent / RUNS}: format {document['format']}, this version reads {FORMAT}")
            with path.open(newline="") as file:
                header, *rows = csv.reader(file)
            if tuple(header) != COLUMNS:
                raise ConfigError(f"{path}: the columns are {','.join(header)}, not {','.join(COLUMNS)}")
            table = np.array([numbers(row, path) for row in rows])
            for index, entry in enumerate(document["runs"]):
                curves = dict(zip(CURVES, table[table[:, 0] == index, 1:].T, strict=True))
                settings = {**document["settings"][entry.pop("settings")], "seed": entry.pop("seed")}
                runs.append(Run(folder=None, settings=settings, **entry, **curves))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path.parent} is no folder of committed evaluations: {error!r}") from error
    return runs
