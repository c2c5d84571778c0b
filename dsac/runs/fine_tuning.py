"""Fine-tuning: a new run that starts from what another one learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsac.algorithms.base import Algorithm
from dsac.errors import ConfigError
from dsac.nn.optimizer import Adam
from dsac.persistence import checkpoint

STATISTICS = ("observations.", "returns.")
RUNNING = "returns.running"  # what the source's worlds were earning when it was saved: no statistic


@torch.no_grad()
def take_weights(algorithm: Algorithm, run: Path) -> dict[str, Any]:
    """Copy parameters and normaliser statistics from the newest checkpoint of `run`; one learner there starts all here.

    Returns what run.json keeps of it. Raises ConfigError with a line for each tensor that differs, CheckpointError
    where there is nothing to believe.
    """
    state, manifest, _ = checkpoint.newest_intact(run / "checkpoints", checkpoint.RUN, with_logs=False)
    found: dict[str, np.ndarray] = state["trainer"]["algorithm"]
    if lines := differences(found, algorithm):
        raise ConfigError(*(f"init_from={run}: {line}" for line in lines))
    for name, tensor in wanted(algorithm).items():
        tensor.copy_(torch.from_numpy(found[name].copy()))  # one learner's is broadcast
    return {"run": str(run), "env_steps": manifest["env_steps"]}


def wanted(algorithm: Algorithm) -> dict[str, Tensor]:
    """What is taken from another run, by name: every parameter, and the statistics of the normalisers."""
    buffers = dict(algorithm.named_buffers())
    statistics = {name: buffer for name, buffer in buffers.items() if name.startswith(STATISTICS) and name != RUNNING}
    return dict(algorithm.named_parameters()) | statistics


def differences(found: Mapping[str, np.ndarray], algorithm: Algorithm) -> list[str]:
    """A line for each tensor whose shape is another one in `found`, that it lacks, or that there is no place for."""
    needed = {name: tuple(tensor.shape) for name, tensor in wanted(algorithm).items()}
    optimizers = tuple(f"{name}." for name, module in algorithm.named_modules() if isinstance(module, Adam))
    passed_over = {RUNNING, *algorithm.state_dict()} - needed.keys()
    offered = [name for name in found if name not in passed_over and not name.startswith(optimizers)]
    shapes = {name: found[name].shape for name in offered}
    return [
        f"{name} has the shape {shapes.get(name, 'none')} there, {needed.get(name, 'none')} here"
        for name in sorted(shapes.keys() | needed.keys())
        if name not in shapes or name not in needed or shapes[name] not in (needed[name], (1, *needed[name][1:]))
    ]
