"""Run folders <runs>/<env>/<algo>/<time>-seed<seed>: config.yaml, run.json, checkpoints and a folder a learner."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import yaml

from dsac.config import to_tree
from dsac.persistence import atomic
from dsac.schema import files
from dsac.schema.run_config import EnvConfig, TrainConfig


def create(config: TrainConfig) -> Path:
    """Make the folder of a new run; starts within the same second get folders of their own."""
    parent = folder_of(config)
    files.make_folders(parent)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{config.seed}"
    run = next(run for run in candidates(parent / stem) if made(run))
    files.sync(parent)
    return run


def folder_of(config: TrainConfig) -> Path:
    """Where the runs of a config's task and algorithm are."""
    return Path(config.runs).expanduser() / env_name(config.env) / str(config.algo.name)


def env_name(env: EnvConfig) -> str:
    """What the task is called in paths and titles: Humanoid, Pendulum-v1, Name-v0 for module:Name-v0.

    A robot of one's own is called by its task's id, for which its module, which was typed, is imported. Raises
    EnvironmentFault where it has none.
    """
    if env.task is None:
        name = (env.id or env.name).rpartition(":")[2]
    else:
        from envs.tasks import find_task  # few runs need it

        name = str(find_task(env.task).id)
    return re.sub(r"[^\w.+-]", "-", name).lstrip(".") or env.name


def folders_of(config: TrainConfig) -> list[Path]:
    """Where runs of a config's task and algorithm may be: `folder_of`, and where earlier releases put them."""
    return list(dict.fromkeys([folder_of(config), Path(config.runs).expanduser() / config.env.name / config.algo.name]))


def save_config(run: Path, config: TrainConfig) -> None:
    """Write config.yaml, the settings of the newest session."""
    atomic.write_text(run / "config.yaml", yaml.safe_dump(to_tree(config), sort_keys=False))


def candidates(stem: Path) -> Iterator[Path]:
    """stem, stem-2, stem-3, ..."""
    yield stem
    yield from (stem.with_name(f"{stem.name}-{number}") for number in count(2))


def made(folder: Path) -> bool:
    """Whether this process is the one that made the folder."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
