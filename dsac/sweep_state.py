"""What is there of the runs of a sweep: which folder holds one, how far it is, and whether a process works on it.

A run is known by its settings: two are the same where their checked configs are equal, the seed included, apart from
what only says how a machine carries them out. Names and places of folders mean nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dsac import checkpoint, commit
from dsac.config import GROUPS, load, to_tree
from dsac.importing import modules_named, refusals
from dsac.settings import RayConfig, TrainConfig
from dsac.sittings import config_hash

MACHINE: dict[str, Any] = {
    "experiment": None, "device": "auto", "threads": None, "accelerate": "auto", "runs": "runs",
    "keep_checkpoints": 2, "checkpoint_every_env_steps": 1,
}  # fmt: skip
LOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Found:
    """A run folder that holds a planned run, or none, and how far it is.

    scores: the latest evaluation's mean return of each learner; empty before the first
    """

    run: Path | None = None
    env_steps: int = 0
    scores: tuple[float, ...] = ()
    finished: bool = False


def identity(config: TrainConfig) -> str:
    """Twelve hex digits that equal configs share, whatever machine they run on."""
    return config_hash(on_any_machine(config))


def on_any_machine(config: TrainConfig) -> TrainConfig:
    """A config in which what only says how a machine carries it out has the same value for all."""
    ray = dataclasses.replace(config.ray, address="local", cpus=1, silent_seconds=1.0)
    return dataclasses.replace(config, **MACHINE, ray=ray if config.collect == "ray" else RayConfig())


def find(config: TrainConfig) -> Found:
    """The folder below `runs` that holds this run: a finished one before others, then the farthest one saved."""
    found = [progress(run, config) for run in same_runs(config)]
    return max(found, key=lambda one: (one.finished, one.env_steps), default=Found())


def same_runs(config: TrainConfig) -> list[Path]:
    """The folders of runs with these settings that saved something."""
    wanted = identity(config)
    return [
        path.parent
        for path in sorted(Path(config.runs).expanduser().glob("*/*/*/config.yaml"))
        if saved_something(path.parent) and identity_of(path, config) == wanted
    ]


def saved_something(run: Path) -> bool:
    """Whether a run ever committed a checkpoint, be it damaged since."""
    return any(not path.name.endswith(".partial") for path in (run / "checkpoints").glob("*"))


def identity_of(path: Path, config: TrainConfig) -> str | None:
    """The identity of a config.yaml; None for one that cannot be this config, which is not loaded then."""
    ours = to_tree(config)
    try:
        tree = saved_tree(path, path.stat().st_mtime_ns)
        if tree["seed"] != config.seed or any(names(tree[group]) != names(ours[group]) for group in GROUPS):
            return None
        return None if refusals(tree, modules_named(ours)) else identity(load(tree))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return None


def names(section: dict[str, Any]) -> tuple[Any, ...]:
    """What a section of a config chooses, by which modules are found."""
    return section["name"], section.get("id"), section.get("task")


@functools.cache
def saved_tree(path: Path, _changed: int) -> Any:
    """A config.yaml as it stood at the time of its last change; each is asked about once for every planned run."""
    return yaml.safe_load(path.read_text())


def progress(run: Path, config: TrainConfig) -> Found:
    """How far a run is: what its newest checkpoint says, and whether every learner's last evaluation was made."""
    saved = 0
    for folder in reversed(checkpoint.committed(run / "checkpoints")):
        try:
            saved = commit.read_manifest(folder)["env_steps"]
            break
        except (commit.CheckpointError, KeyError):
            continue
    latest = [last_evaluation(run / f"learner-{learner}" / "metrics.csv") for learner in range(config.learners)]
    scored = min(env_steps for env_steps, _ in latest)
    finished = min(saved, scored) >= config.total_env_steps
    return Found(run, saved, tuple(score for _, score in latest) if scored >= 0 else (), finished)


def last_evaluation(path: Path) -> tuple[int, float]:
    """(env steps, mean return) of the last evaluation in a metrics.csv; (-1, nan) before the first."""
    last = (-1, float("nan"))
    try:
        with path.open() as file:
            for row in csv.reader(line for line in file if line.endswith("\n")):  # the last may be half written
                if row[3] == "eval/return":
                    last = (int(row[0]), float(row[4]))
    except OSError:  # not there yet
        pass
    return last


@contextmanager
def held(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[bool]:
    """Hold the lock of a run's folder, which the kernel frees with the process; False where another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        deadline = time.monotonic() + seconds
        while not (ours := locked(file)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield ours


def locked(file: Any) -> bool:
    """Whether this process now has the lock of an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def elsewhere(folder: Path) -> bool:
    """Whether another process holds a run's lock."""
    with held(folder, 0) as free:
        return not free


def read_status(folder: Path) -> dict[str, Any]:
    """What the process of a run last wrote of itself; empty before that."""
    try:
        status = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
