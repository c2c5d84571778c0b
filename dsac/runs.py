"""Run folders <runs>/<env>/<algo>/<time>-seed<seed>: config.yaml, run.json, checkpoints and a folder a learner."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml

from dsac import checkpoint
from dsac.config import ConfigError, TrainConfig, load, to_tree
from dsac.policy import Policy

LIBRARIES = ("dsac", "torch", "mujoco", "gymnasium", "numpy", "numba")


def create(config: TrainConfig) -> Path:
    """Make the folder of a new run; starts within the same second get folders of their own."""
    parent = Path(config.runs) / config.env.name / config.algo.name
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{config.seed}"
    run = next(run for run in candidates(parent / stem) if made(run))
    (run / "config.yaml").write_text(yaml.safe_dump(to_tree(config), sort_keys=False))
    return run


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


def config_of(run: Path) -> dict[str, Any]:
    """The saved config of a run as a plain tree. Raises ConfigError when there is none."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run} is not a run folder: it holds no config.yaml")
    tree = yaml.safe_load(path.read_text())
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no config")
    return tree


def config_hash(config: TrainConfig) -> str:
    """Twelve hex digits that name the settings."""
    return hashlib.sha256(json.dumps(to_tree(config), sort_keys=True).encode()).hexdigest()[:12]


def facts(config: TrainConfig, threads: int, device: str) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, revision, config, processor, threads. No names of hosts."""
    return {
        "command": ["python", "-m", "dsac.train", *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}},
        "git_revision": revision(),
        "config_hash": config_hash(config),
        "device": device,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


def record(run: Path, sitting: dict[str, Any]) -> None:
    """Append a sitting (a start or a resume) to run.json."""
    path = run / "run.json"
    document = json.loads(path.read_text()) if path.exists() else {"sittings": []}
    document["sittings"].append(sitting)
    path.write_text(json.dumps(document, indent=2))


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision of the source tree, with "+" where it was changed since; None outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout else "")


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def load_config(run: Path) -> TrainConfig:
    """The checked config of a run folder."""
    return load(config_of(run))


def load_policy(run: Path | str, which: str = "best", learner: int = 0) -> tuple[Policy, dict[str, Any]]:
    """The best or the last policy of a run, and the manifest that says where it comes from.

    Raises CheckpointError when there is none or its hash differs.
    """
    state, manifest = checkpoint.read(Path(run) / f"learner-{learner}" / which)
    policy = Policy(state["description"])
    policy.load_state_dict({name: torch.from_numpy(value) for name, value in state["parameters"].items()})
    return policy.requires_grad_(False).eval(), manifest
