"""Runs that take a fraction of a second, and ways to look at what they left behind."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac.cli.signals import stopping_on_signals
from dsac.config import compose, load
from dsac.memory.kernels import TRANSITION
from dsac.memory.size import frames_per_world
from dsac.persistence import checkpoint
from dsac.persistence.replay_segments import Log
from dsac.schema.run_config import TrainConfig
from dsac.train import run_session

SMALL = "env=InvertedPendulum experiment=paper threads=1 eval.episodes=2 num_envs=2 algo.hidden_sizes=[8,8]"
OFF_POLICY = "updates_per_env_step=0.25 algo.batch_size=8 algo.replay_capacity=200 algo.warmup_env_steps=40"
ON_POLICY = "algo.horizon=16 algo.minibatch_size=16 algo.epochs=2"
CADENCES = "log_every_env_steps=32 eval_every_env_steps=64 checkpoint_every_env_steps=96 total_env_steps=256"


def small_words(runs: Path, algo: str = "dsac_t", *more: str) -> list[str]:
    """The words of a small run of an algorithm below `runs`."""
    own = ON_POLICY if algo == "ppo" else OFF_POLICY
    return [f"algo={algo}", *SMALL.split(), *own.split(), *CADENCES.split(), f"runs={runs}", *more]


def small_config(runs: Path, algo: str = "dsac_t", *more: str) -> TrainConfig:
    """The config of a small run."""
    return load(compose(small_words(runs, algo, *more)))


def only_run(runs: Path) -> Path:
    """The one run folder below `runs`."""
    (config,) = runs.glob("*/*/*/config.yaml")
    return config.parent


def train(config: TrainConfig, run: Path | None, tasks: Sequence[Callable[[Any], None]] = ()) -> int:
    """A session of a new run, or of the one in the folder `run`; the exit code."""
    with stopping_on_signals() as stopping:
        return run_session(config, run, tasks, stopping=stopping).exit_code


def train_whole(config: TrainConfig) -> Path:
    """Train without a break; the run folder."""
    assert train(config, None) == 0
    return only_run(Path(config.runs))


def stop_at(env_steps: int, warmup_env_steps: int = 0) -> Callable[[Any], None]:
    """A task that stops a run once it has taken this many steps and this many of the warm-up."""

    def task(trainer: Any) -> None:
        if trainer.env_steps >= env_steps and trainer.warmup_env_steps >= warmup_env_steps:
            trainer.stop("test")

    return task


def final_state(run: Path) -> dict[str, np.ndarray]:
    """Every array and value of the newest checkpoint by its path, but for the wall time and the scores."""
    state, _ = checkpoint.read(checkpoint.committed(run / "checkpoints")[-1])
    flat = flatten(state["trainer"])
    trim_frames(flat, state["trainer"]["memory"])
    return {path: value for path, value in flat.items() if path.partition(".")[0] not in ("wall_time", "scores")}


def trim_frames(flat: dict[str, np.ndarray], memory: dict[str, Any]) -> None:
    """Leave out what has no meaning and depends on where a run was resumed.

    Frames that a segment still holds and the ring no more, and what lies in the place of an action that was not taken.
    """
    if "frames" not in memory:
        return
    length = frames_per_world(memory["capacity"], memory["num_envs"])
    for (learner, world), written in np.ndenumerate(memory["written"]):
        held = max(int(written) - 1 - max(int(written) - length, 0), 0)
        for name in ("obs", "action", "reward", "flags"):
            key = f"memory.frames.{learner}.{world}.{name}"
            flat[key] = flat[key][len(flat[key]) - held :].copy()
        taken = flat[f"memory.frames.{learner}.{world}.flags"] & TRANSITION != 0
        for name in ("action", "reward"):
            flat[f"memory.frames.{learner}.{world}.{name}"][~taken] = 0


def flatten(tree: Any, path: str = "") -> dict[str, np.ndarray]:
    """The leaves of a tree by their dotted path; a log by what it holds of each world."""
    if isinstance(tree, Log):
        return {f"{path}.{name}": rows for name, rows in world_by_world(tree).items()}
    if isinstance(tree, dict | list):
        entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
        parts = [flatten(value, f"{path}.{key}" if path else str(key)) for key, value in entries]
        return {key: value for part in parts for key, value in part.items()}
    return {path: np.asarray(tree)}


def world_by_world(chunks: Iterable[Any]) -> dict[str, np.ndarray]:
    """The rows of a log's chunks, whatever its segments, and the frame that each world's rows end before."""
    parts: dict[str, list[np.ndarray]] = {}
    for chunk in chunks:
        row = 0
        for learner, world in np.ndindex(chunk["start"].shape):
            count = int(chunk["stop"][learner, world] - chunk["start"][learner, world])
            for name in ("obs", "action", "reward", "flags"):
                parts.setdefault(f"{learner}.{world}.{name}", []).append(chunk[name][row : row + count])
            row += count
        last = chunk["stop"]
    return {"stop": last} | {name: np.concatenate(rows) for name, rows in parts.items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Equal keys and bit-equal values."""
    assert found.keys() == expected.keys()
    different = [key for key in expected if not np.array_equal(found[key], expected[key])]
    assert not different, different


def rows(run: Path, learner: int = 0) -> list[dict[str, str]]:
    """metrics.csv as one dict a row."""
    with (run / f"learner-{learner}" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def lasting_rows(run: Path, learner: int = 0) -> list[tuple[str, ...]]:
    """The rows of metrics.csv that do not depend on the clock."""
    return [
        (row["env_steps"], row["updates"], row["tag"], row["value"])
        for row in rows(run, learner)
        if not row["tag"].startswith("rate/") and row["tag"] != "progress/wall_time"
    ]
