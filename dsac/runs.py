"""Run folders <runs>/<env>/<algo>/<time>-seed<seed>: config.yaml, run.json, checkpoints and a folder a learner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import yaml

import envs
from dsac import checkpoint, commit, files
from dsac.config import ConfigError, to_tree
from dsac.plain_data import misfit
from dsac.policy import Policy, restored
from dsac.settings import EnvConfig, TrainConfig
from envs.contract import VecEnv


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
    """What the task is called in paths and titles: Humanoid, Pendulum-v1, or Name-v0 for module:Name-v0."""
    return (env.id or env.name).rpartition(":")[2].replace("/", "-")


def save_config(run: Path, config: TrainConfig) -> None:
    """Write config.yaml, the settings of the newest sitting."""
    commit.write_text(run / "config.yaml", yaml.safe_dump(to_tree(config), sort_keys=False))


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


def make_worlds(env: EnvConfig, num_envs: int, seed: int, action_units: str, threads: int | None = None) -> VecEnv:
    """Worlds of a config's task: action units "unit" for training, "env" for scoring, on the model as it is."""
    return envs.make(
        env.name,
        num_envs,
        seed,
        env.backend,
        env_id=env.id,
        xml=env.xml,
        task=env.task,
        threads=threads,
        randomise=env.randomise and action_units == "unit",
        flatten=env.flatten,
        action_units=action_units,
        max_episode_steps=env.max_episode_steps,
    )


def load_policy(run: Path | str, which: str = "best", learner: int = 0) -> Policy:
    """The best or the last deterministic policy of a run: raw observations in, actions in the task's units out.

    Raises ConfigError when there is none, CheckpointError when it is damaged.
    """
    return read_policy(Path(run), which, learner)[0]


def read_policy(run: Path, which: str, learner: int) -> tuple[Policy, dict[str, Any]]:
    """The best or the last policy of a run, and the manifest that says where it comes from.

    Raises ConfigError when there is none, CheckpointError when it is damaged.
    """
    folder = run / f"learner-{learner}" / which
    if not commit.present(folder):
        raise ConfigError(f"{run} has no {which} policy of learner {learner}")
    state, manifest = checkpoint.read(folder)
    if wrong := misfit({**manifest, "state": state}, {"env_steps": int, "state": {"description": dict}}):
        raise commit.CheckpointError(f"{folder}: {wrong}")
    try:
        return restored(state["description"], state.get("parameters")), manifest
    except (ValueError, TypeError, RuntimeError) as error:
        raise commit.CheckpointError(f"{folder}: no policy: {error}") from error
