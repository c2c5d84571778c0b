"""Run folders <runs>/<env>/<algo>/<time>-seed<seed>: config.yaml, run.json, checkpoints and a folder a learner."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml

import envs
from dsac import checkpoint
from dsac.config import ConfigError, EnvConfig, TrainConfig, to_tree
from dsac.policy import Policy
from envs.contract import VecEnv

LIBRARIES = ("dsac", "torch", "mujoco", "gymnasium", "numpy", "numba")


def create(config: TrainConfig) -> Path:
    """Make the folder of a new run; starts within the same second get folders of their own."""
    parent = Path(config.runs).expanduser() / env_name(config.env) / config.algo.name
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{config.seed}"
    return next(run for run in candidates(parent / stem) if made(run))


def env_name(env: EnvConfig) -> str:
    """What the task is called in paths and titles: Humanoid, Pendulum-v1, or Name-v0 for module:Name-v0."""
    return (env.id or env.name).rpartition(":")[2].replace("/", "-")


def save_config(run: Path, config: TrainConfig) -> None:
    """Write config.yaml, the settings of the newest sitting."""
    checkpoint.write_text(run / "config.yaml", yaml.safe_dump(to_tree(config), sort_keys=False))


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


def config_hash(config: TrainConfig) -> str:
    """Twelve hex digits that name the settings."""
    return hashlib.sha256(json.dumps(to_tree(config), sort_keys=True).encode()).hexdigest()[:12]


def facts(config: TrainConfig, torch_threads: int, env_steps: int) -> dict[str, Any]:
    """What a reader needs to repeat a sitting: versions, revision, config, processor, threads. No names of hosts."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "at_env_steps": env_steps,
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}},
        "git_revision": revision(),
        "config_hash": config_hash(config),
        "device": config.device,
        "accelerate": config.accelerate,
        "precision": config.precision,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": config.threads,
        "torch_threads": torch_threads,
        "policy_lag_blocks": int(config.overlap),
    }


def record(run: Path, sitting: dict[str, Any]) -> None:
    """Append a sitting (a start or a resume) to run.json."""
    path = run / "run.json"
    sittings = json.loads(path.read_text())["sittings"] if path.exists() else []
    checkpoint.write_text(path, json.dumps({"sittings": [*sittings, sitting]}, indent=2))


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision of the source tree, with "+" where it was changed since; None outside its repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout

    try:
        git("ls-files", "--error-unmatch", "runs.py")  # an installed package may lie inside someone else's repository
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def load_policy(run: Path | str, which: str = "best", learner: int = 0) -> Policy:
    """The best or the last deterministic policy of a run: raw observations in, actions in the task's units out.

    Raises ConfigError when there is none, CheckpointError when it is damaged.
    """
    return read_policy(Path(run), which, learner)[0]


def read_policy(run: Path, which: str, learner: int) -> tuple[Policy, dict[str, Any]]:
    """The best or the last policy of a run, and the manifest that says where it comes from.

    Raises ConfigError when there is none, CheckpointError when its hash differs.
    """
    folder = run / f"learner-{learner}" / which
    if not checkpoint.present(folder):
        raise ConfigError(f"{run} has no {which} policy of learner {learner}")
    state, manifest = checkpoint.read(folder)
    policy = Policy(state["description"])
    policy.load_state_dict({name: torch.from_numpy(value) for name, value in state["parameters"].items()})
    return policy.requires_grad_(False).eval(), manifest
