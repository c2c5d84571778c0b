"""What a Gymnasium world looks like from outside, or why it does not suit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from envs.answers import Part, in_one_line
from envs.contract import EnvSpec, FloatArray, UnsuitableEnvironment, refuse_limits
from envs.mujoco_facts import REWARD_TERMS, actuator_names, observation_names


def describe(task_id: str, world: gymnasium.Env[Any, Any], parts: Sequence[Part]) -> EnvSpec:
    """What a world looks like from outside; `parts` are those of its observation. Raises UnsuitableEnvironment."""
    low, high = _action_limits(task_id, world.action_space)
    simulated: Any = world.unwrapped
    names = tuple(name for part in parts for name in part.names)
    clock = None if world.spec is None else world.spec.max_episode_steps
    model = getattr(simulated, "model", None)
    has_model = isinstance(model, mujoco.MjModel) and model.nu == len(low)
    dt = getattr(simulated, "dt", 0.0)
    return EnvSpec(
        id=task_id,
        obs_dim=len(names),
        action_dim=len(low),
        action_low=low,
        action_high=high,
        dt=float(dt) if isinstance(dt, int | float) else 0.0,
        obs_names=observation_names(task_id, simulated) if task_id in REWARD_TERMS else names,
        action_names=actuator_names(model) if has_model else tuple(f"action[{entry}]" for entry in range(len(low))),
        reward_terms=REWARD_TERMS.get(task_id, ()),
        max_episode_steps=clock if clock and clock > 0 else None,
    )


def _action_limits(task_id: str, space: Any) -> tuple[FloatArray, FloatArray]:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating) or len(space.shape) != 1:
        raise UnsuitableEnvironment(
            f"{task_id}: its action space is {in_one_line(str(space))}; a one-dimensional Box of real numbers is needed"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsuitableEnvironment(
            f"{task_id}: its action space is unbounded, {in_one_line(str(space))}; give it finite limits"
        )
    names = [f"action[{entry}]" for entry in range(len(space.low))]
    refuse_limits(task_id, names, space.low, space.high)
    return space.low.astype(np.float32), space.high.astype(np.float32)


def parts_of(task_id: str, space: Any, keys: tuple[Any, ...], flatten: bool) -> tuple[Part, ...]:
    """The Boxes of a space in the order in which Gymnasium flattens it; `keys` are those of the Dicts around it.

    Raises UnsuitableEnvironment where there is anything else in it.
    """
    if isinstance(space, spaces.Dict):
        if not flatten:
            raise UnsuitableEnvironment(
                f"{task_id}: its observation is a Dict of {', '.join(map(str, space.spaces))}; "
                "set env.flatten=true to join them into one vector"
            )
        return tuple(
            part for key, inner in space.spaces.items() for part in parts_of(task_id, inner, (*keys, key), flatten)
        )
    if not isinstance(space, spaces.Box):
        raise UnsuitableEnvironment(
            f"{task_id}: its {Part(keys, 0).label} is {in_one_line(str(space))}; a one-dimensional Box is needed"
        )
    part = Part(keys, math.prod(space.shape))
    if len(space.shape) > 1:
        raise UnsuitableEnvironment(
            f"{task_id}: its {part.label} has shape {space.shape}, as images have; a one-dimensional Box is needed"
        )
    return (part,)
