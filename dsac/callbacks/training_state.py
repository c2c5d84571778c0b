"""What a checkpoint holds of a training, and how it is put back: the counts of the loop and the state of every part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dsac.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that the rest of the run depends on: a tree of tensors, arrays and plain values."""
    updater = trainer.updater
    return {
        "env_steps": trainer.env_steps,
        "warmup_env_steps": trainer.warmup_env_steps,
        "wall_time": trainer.wall_time,
        "metrics": dict(trainer.metrics),
        "scores": trainer.scores,
        "algorithm": dict(trainer.algorithm.state_dict()),
        "updater": {
            "count": updater.count,
            "generators": [generator.get_state() for generator in updater.generators],
        },
        "collector": trainer.collector.state_dict(),
        "memory": trainer.memory.state_dict(),
    }


def restore(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Continue where the saved run stood."""
    trainer.env_steps = trainer.previous_env_steps = state["env_steps"]
    trainer.warmup_env_steps, trainer.earlier_wall_time = state["warmup_env_steps"], state["wall_time"]
    trainer.metrics = {name: torch.from_numpy(value) for name, value in state["metrics"].items()}
    trainer.scores = state.get("scores", [])  # a checkpoint of before they were kept has none
    trainer.algorithm.load_state_dict({name: torch.from_numpy(value) for name, value in state["algorithm"].items()})
    trainer.updater.count = state["updater"]["count"]
    for generator, saved in zip(trainer.updater.generators, state["updater"]["generators"], strict=True):
        generator.set_state(torch.as_tensor(saved).clone())  # a view with an offset crashes torch
    trainer.collector.load_state_dict(state["collector"])
    returns = trainer.algorithm.returns
    if returns is not None and not all(env.exact_state for env in trainer.collector.envs):
        returns.running.zero_()  # new episodes begin, which earn nothing from those before
    trainer.memory.load_state_dict(state["memory"])
