"""Transitions a second into the replay and batches a second out of it, at a task's sizes and a full ring."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsac.bench import timing
from dsac.data import Transition
from dsac.memory.replay import Replay
from dsac.schema.ranges import at_least, positive

HELP = """\
python -m dsac.bench replay [capacity=1000000] [worlds=20] [batch=256] [learners=1] [device=cpu] [seconds=1]
                            [repeats=5] [--json]

Humanoid and HalfCheetah sizes. The ring is full, so that rows come from all over it; bytes are those of the rows.
"""
SIZES = {"Humanoid": (348, 17), "HalfCheetah": (17, 6)}


@dataclass(frozen=True)
class Config:
    """The words of this command."""

    capacity: int = at_least(1_000_000, 1)
    worlds: int = at_least(20, 1)
    batch: int = at_least(256, 1)
    learners: int = at_least(1, 1)
    device: str = "cpu"
    seconds: float = positive(1.0)
    repeats: int = at_least(5, 1)


def measure(config: Config) -> dict[str, Any]:
    """The report of a run: versions, and a row for each task."""
    return {"versions": timing.versions(), "rows": [race(task, config) for task in SIZES]}


def race(task: str, config: Config) -> dict[str, Any]:
    """Adding and drawing in turns."""
    obs_dim, action_dim = SIZES[task]
    replay = Replay(
        capacity=config.capacity,
        num_envs=config.worlds,
        obs_dim=obs_dim,
        action_dim=action_dim,
        batch_size=config.batch,
        updates_per_env_step=1.0,
        gamma=0.99,
        n_step=1,
        seeds=range(config.learners),
        device=config.device,
    )
    long, short = (random_block(steps, config, obs_dim, action_dim) for steps in (1_000, 1))
    while replay.transitions.min() < config.capacity - 1_000 * config.worlds:
        replay.add(long, counts=False)

    def add() -> float:
        replay.add(short, counts=False)
        return float(config.worlds * config.learners)

    def draw() -> float:
        replay.sample()
        return 1.0

    rates = timing.in_turns({"add": add, "draw": draw}, config.repeats, config.seconds)
    row_bytes = 4 * (2 * obs_dim + action_dim + 2) * config.batch * config.learners
    batches = statistics.median(rates["draw"])
    return {
        "task": task,
        "transitions": int(replay.transitions.sum()),
        "gigabytes": replay.frames.nbytes / 1e9,
        "added_per_second": statistics.median(rates["add"]),
        "batches_per_second": batches,
        "drawn_gigabytes_per_second": batches * row_bytes / 1e9,
    }


def random_block(steps: int, config: Config, obs_dim: int, action_dim: int) -> Transition:
    """A block (T, S, N, ...) of worlds that stand still, so that blocks join into one unbroken episode."""
    generator, rows = np.random.default_rng(0), (steps, config.learners, config.worlds)
    obs = np.ascontiguousarray(np.broadcast_to(np.float32(0.5), (*rows, obs_dim)))
    flags = [np.zeros(rows, np.bool_) for _ in range(3)]
    action = generator.standard_normal((*rows, action_dim), np.float32)
    return Transition(obs, action, generator.standard_normal(rows, np.float32), obs, *flags)


def table(report: dict[str, Any]) -> str:
    """The rows for people."""
    head = f"{'task':<16}{'transitions':>12}{'GB':>7}{'added/s':>13}{'batches/s':>12}{'drawn GB/s':>12}"
    return "\n".join(
        [head]
        + [
            f"{row['task']:<16}{row['transitions']:>12,}{row['gigabytes']:>7.2f}{row['added_per_second']:>13,.0f}"
            f"{row['batches_per_second']:>12,.0f}{row['drawn_gigabytes_per_second']:>12.2f}"
            for row in report["rows"]
        ]
    )
