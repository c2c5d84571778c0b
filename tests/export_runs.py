"""What the tests of exports share: runs whose policies were never trained, and their exports in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsac import export
from dsac.algorithms import load as load_algorithm
from dsac.collection.worlds import make_worlds
from dsac.config import compose, load
from dsac.persistence.policies import task_facts, write_policy
from dsac.runs import folder as run_folder

SMALL = ("algo.hidden_sizes=[24,16]", "threads=1")


def untrained_run(folder: Path, env: str, algo: str, *more: str) -> Path:
    """A run folder with the first policies of its learners as the best ones. Weights of the last layer are larger, so
    that actions reach their limits; a normaliser has seen random actions."""
    config = load(compose([f"env={env}", f"algo={algo}", "experiment=paper", f"runs={folder}", *more]))
    worlds = make_worlds(config.env, 4, 0, "unit", 1)
    algorithm = load_algorithm(config.algo.name)(worlds.spec, config.algo, config.seeds)
    with torch.no_grad():
        algorithm.actor.output.weight.mul_(50 if algo == "ppo" else 4)
    if algorithm.observations is not None:
        algorithm.observations.update(torch.from_numpy(random_walk(worlds, len(config.seeds))))
    run = run_folder.create(config)
    run_folder.save_config(run, config)
    facts = {"env_steps": 0, "updates": 0, "task": task_facts(worlds.spec)}
    for learner in range(config.learners):
        write_policy(run / f"learner-{learner}" / "best", algorithm.policy(learner), facts)
    worlds.close()
    return run


def random_walk(worlds: Any, learners: int) -> np.ndarray:
    """Observations under random actions (T, S, N, O)."""
    draw = np.random.default_rng(0)
    obs = [worlds.reset(0)]
    for _ in range(40):
        action = draw.uniform(-1, 1, (worlds.num_envs, worlds.spec.action_dim)).astype(np.float32)
        obs.append(worlds.step(action).obs)
    return np.repeat(np.stack(obs)[:, None], learners, 1)


def exported(run: Path, **settings: Any) -> Path:
    """A quick export: few rows, no closed loop."""
    return Path(export(run, **{"rows": 256, "episodes": 0, **settings})["out"])


def bad_rows(row: np.ndarray, obs_abs_max: float) -> np.ndarray:
    """A good observation (O,) with NaN, the infinities and twice the limit in one entry at a time (4 O, O)."""
    rows = []
    for entry in range(len(row)):
        for value in (np.nan, np.inf, -np.inf, 2 * obs_abs_max):
            rows.append(row.copy())
            rows[-1][entry] = value
    return np.array(rows, np.float32)


def left_behind(folder: Path) -> list[Path]:
    """Everything below a folder that looks like an export or a part of one."""
    names = ("policy.onnx", "policy.h", "policy.json", "parity.npz", "controller.py", "policy.pt")
    return [path for path in folder.rglob("*") if path.name in names or ".partial" in path.name]
