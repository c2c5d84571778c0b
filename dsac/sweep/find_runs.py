"""What is there of the runs of a sweep: which folder holds one, how far it is, and whether a process works on it.

A run is known by its settings: two are the same where their checked configs are equal, the seed included, apart from
what only says how a machine carries them out and what is kept of them. Names and places of folders mean nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsac.cli.progress import following
from dsac.config import GROUPS, load, to_tree
from dsac.errors import CheckpointError, FileError
from dsac.persistence import atomic, checkpoint
from dsac.runs.config_text import read_config
from dsac.runs.metrics import last_evaluation
from dsac.runs.record import config_hash
from dsac.schema.files import read_json
from dsac.schema.importing import modules_named
from dsac.schema.run_config import NOT_OF_A_RUN, SECTIONS, RayConfig, TrainConfig

PATHS = ("env.xml", "init_from")
STATUS = "status.json"
QUIET_SECONDS = 2.0

Section = TypeVar("Section", bound=Any)
Chosen = tuple[Any, ...]  # the seed of a run, and what its config chooses by which modules are found


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
    """A config in which all that does not tell runs apart has the same value for all, and paths are whole."""
    sections = {name: getattr(config, name) for name in SECTIONS}
    if config.collect == "local":
        sections["ray"] = RayConfig()
    sections = {name: plain(section, f"{name}.") for name, section in sections.items()}
    return dataclasses.replace(plain(config), **sections)


def plain(section: Section, prefix: str = "") -> Section:
    """A section with the defaults of what does not tell runs apart, and with whole paths."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        key, value = f"{prefix}{field.name}", getattr(section, field.name)
        if key in NOT_OF_A_RUN:
            values[field.name] = field.default
        elif key in PATHS and value is not None:
            values[field.name] = str(Path(value).resolve())
    return dataclasses.replace(section, **values)


def find(config: TrainConfig) -> Found:
    """The folder below `runs` that holds this run: a finished one before others, then the farthest one saved."""
    return find_all([config])[0]


def find_all(configs: Sequence[TrainConfig]) -> list[Found]:
    """The folder of each of some runs, as `find`; however many there are, the folders are looked through once."""
    wanted = [identity(config) for config in configs]
    places: dict[str, set[Chosen]] = {}
    for config in configs:
        places.setdefault(config.runs, set()).add(base_choice(to_tree(config)))
    folders: dict[str, dict[str, list[Path]]] = {runs: indexed(Path(runs), asked) for runs, asked in places.items()}
    return [
        max(
            (progress(run, config) for run in folders[config.runs].get(same, ())),
            key=lambda one: (one.finished, one.env_steps),
            default=Found(),
        )
        for config, same in zip(configs, wanted, strict=True)
    ]


def indexed(runs: Path, asked: Collection[Chosen]) -> dict[str, list[Path]]:
    """The folders that saved something, by the identity of their config; of those that may be asked for."""
    found: dict[str, list[Path]] = {}
    paths = sorted(runs.expanduser().glob("*/*/*/config.yaml"))
    for path in following("looking at runs", paths, len(paths), quiet_seconds=QUIET_SECONDS):
        same = identity_of(path, asked)
        if same is not None and saved_something(path.parent):
            found.setdefault(same, []).append(path.parent)
    return found


def saved_something(run: Path) -> bool:
    """Whether a run ever committed a checkpoint, be it damaged since."""
    return any(not path.name.endswith(".partial") for path in (run / "checkpoints").glob("*"))


def identity_of(path: Path, asked: Collection[Chosen]) -> str | None:
    """The identity of a config.yaml; None for one that cannot be a run that is asked for, which is not loaded then.

    Loading one may import what it names. Here that is what the runs that are asked for name, too.
    """
    try:
        tree, same = saved_tree(path, path.stat().st_mtime_ns)
        if base_choice(tree) not in asked:
            return None
        if not same:
            same.append(identity(load(tree)))
        return same[0]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def base_choice(tree: Mapping[str, Any]) -> Chosen:
    """What decides whether a config may be loaded, and is worth it."""
    names = [(tree[group]["name"], tree[group].get("id"), tree[group].get("task")) for group in GROUPS]
    return tree["seed"], *names, *modules_named(tree, uses=("env",)).items()


@functools.cache
def saved_tree(path: Path, _changed: int) -> tuple[Any, list[str]]:
    """A config.yaml as it stood at the time of its last change, and room for its identity, once somebody asks."""
    return read_config(path), []


def progress(run: Path, config: TrainConfig) -> Found:
    """How far a run is: what its newest checkpoint says, and whether every learner's last evaluation was made."""
    saved = 0
    for folder in reversed(checkpoint.committed(run / "checkpoints")):
        try:
            saved = int(atomic.read_manifest(folder)["env_steps"])
            break
        except (CheckpointError, KeyError, ValueError, TypeError):
            continue
    latest = [last_evaluation(run / f"learner-{learner}" / "metrics.csv") for learner in range(config.learners)]
    scored = min(env_steps for env_steps, _ in latest)
    finished = min(saved, scored) >= config.total_env_steps
    return Found(run, saved, tuple(score for _, score in latest) if scored >= 0 else (), finished)


def read_status(folder: Path) -> dict[str, Any]:
    """What the process of a run last wrote of itself; empty before that."""
    try:
        status = read_json(folder / STATUS)
    except FileError:
        return {}
    return status if isinstance(status, dict) else {}
