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

MOST_VALUES = 1000  # of a Discrete, which takes a number for each
OWN_WRAPPER = "in the env, or in a wrapper of your own (env.wrappers=[module:Class])"


def describe(task_id: str, world: gymnasium.Env[Any, Any], parts: Sequence[Part], known: bool) -> EnvSpec:
    """What a world looks like from outside; `parts` are those of its observation.

    known: it is one of the MuJoCo tasks of REWARD_TERMS without wrappers. Raises UnsuitableEnvironment.
    """
    low, high = _action_limits(task_id, world.action_space)
    simulated: Any = world.unwrapped
    names = tuple(name for part in parts for name in part.names)
    clock = None if world.spec is None else world.spec.max_episode_steps
    model = getattr(simulated, "model", None)
    has_model = isinstance(model, mujoco.MjModel) and model.nu == len(low)
    dt = getattr(simulated, "dt", 0.0)
    if known and len(own := observation_names(task_id, simulated)) == len(names):  # arguments may lay it out otherwise
        names = own
    return EnvSpec(
        id=task_id,
        obs_dim=len(names),
        action_dim=len(low),
        action_low=low,
        action_high=high,
        dt=float(dt) if isinstance(dt, int | float) else 0.0,
        obs_names=names,
        action_names=actuator_names(model) if has_model else tuple(f"action[{entry}]" for entry in range(len(low))),
        reward_terms=REWARD_TERMS[task_id] if known else (),
        max_episode_steps=clock if clock and clock > 0 else None,
    )


def _action_limits(task_id: str, space: Any) -> tuple[FloatArray, FloatArray]:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating) or len(space.shape) != 1:
        raise UnsuitableEnvironment(
            f"{task_id}: its action space is {in_one_line(str(space))}; a one-dimensional Box of real numbers is "
            f"needed, since the algorithms here choose continuous actions: make it one {OWN_WRAPPER}"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsuitableEnvironment(
            f"{task_id}: its action space is unbounded, {in_one_line(str(space))}; give it finite limits {OWN_WRAPPER}"
        )
    names = [f"action[{entry}]" for entry in range(len(space.low))]
    refuse_limits(task_id, names, space.low, space.high)
    return space.low.astype(np.float32), space.high.astype(np.float32)


def parts_of(task_id: str, space: Any, keys: tuple[Any, ...], flatten: bool) -> tuple[Part, ...]:
    """The Boxes and Discretes of a space in the order in which Gymnasium flattens it.

    keys: those of the Dicts and Tuples around it. Raises UnsuitableEnvironment where there is anything else in it, and
    where it is no one-dimensional Box by itself unless it is to `flatten`.
    """
    label = f"{task_id}: its {Part(keys, 0).label}"
    if not flatten and (said := _needs_flatten(space)):
        raise UnsuitableEnvironment(f"{label} {said}; set env.flatten=true to lay it out as one vector")
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inside = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return tuple(part for key, inner in inside for part in parts_of(task_id, inner, (*keys, key), flatten))
    if isinstance(space, spaces.Discrete):
        if space.n > MOST_VALUES:
            raise UnsuitableEnvironment(
                f"{label} is {space}, which would take a number for each value; {MOST_VALUES:,} is the most: "
                f"make it smaller, or a number, {OWN_WRAPPER}"
            )
        return (Part(keys, int(space.n), (), int(space.start)),)
    if not isinstance(space, spaces.Box):
        raise UnsuitableEnvironment(
            f"{label} is {in_one_line(str(space))}; Boxes and Discretes are taken, alone or in Dicts and Tuples: "
            f"make one of it {OWN_WRAPPER}"
        )
    if len(space.shape) > 2 or (len(space.shape) == 2 and space.dtype == np.uint8):
        raise UnsuitableEnvironment(
            f"{label} has shape {space.shape}, as images have, and there are no networks for images here: make a "
            f"vector of it {OWN_WRAPPER}"
        )
    return (Part(keys, math.prod(space.shape), space.shape),)


def _needs_flatten(space: Any) -> str | None:
    if isinstance(space, spaces.Dict):
        return f"is a Dict of {', '.join(in_one_line(str(key)) for key in space.spaces)}"
    if isinstance(space, spaces.Tuple):
        return f"is a Tuple of {len(space.spaces)}"
    if isinstance(space, spaces.Discrete):
        return f"is {space}"
    two = isinstance(space, spaces.Box) and len(space.shape) == 2 and space.dtype != np.uint8
    return f"has shape {space.shape}" if two else None
