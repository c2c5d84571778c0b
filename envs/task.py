"""What a task file says: a robot's model, and five small functions over plain rows of numbers.

The functions keep to a scalar subset of Python (see envs/task_checks.py): loops over range, arithmetic, `math`, and
functions marked with @helper. They are compiled for the processor today and can be for a GPU later.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numba.extending import register_jitable

helper = register_jitable


class Randomisation(NamedTuple):
    """A change of the model in each world at each reset, for domain randomisation.

    change           (model, nominal, uniform, normal): writes into model (envs.native.physics.Model), which still holds
                     what the last reset made of it, from the unchanged nominal and noise uniform in [0, 1), (U,), and
                     normal, (V,)
    uniform, normal  U, V
    """

    change: Callable[[Any, Any, Any, Any], None]
    uniform: int = 0
    normal: int = 0


class Task(NamedTuple):
    """One task for one robot. O observation entries, K reward terms, M remembered numbers, U and V noise numbers.

    id                   name with version, "HalfCheetah-v5"
    xml                  path of the MJCF file; None where the user names it
    frame_skip           physics substeps to an action
    max_episode_steps    actions after which the clock truncates an episode
    observation_names    model -> the O names of the observation's entries, in order
    reward_terms         K names of the parts of the reward
    reset                (physics, uniform, normal): writes physics.qpos and physics.qvel, which hold the model's own
                         initial state, from noise uniform in [0, 1), (U,), and normal, (V,)
    observe              (physics, observation): writes all of observation, (O,) float32
    reward               (physics, memory, terms) -> reward; writes its parts into terms, (K,) float32
    terminated           (physics) -> bool, the task ended; None: it never does
    remember             (physics, memory): writes what reward needs to know of the state before the action
    memory, uniform, normal            M, U, V
    bodies, sites, sensors             names that the functions use, as physics.bodies[0], ...
    actuators            names of all actuators in the order that the functions expect; empty: as in the model
    contact_forces       fill physics.cfrc_ext after each step (costs a pass over the bodies)
    randomisation        how the model may differ by world and episode where that is asked for; None: it may not
    """

    id: str
    xml: str | None
    frame_skip: int
    max_episode_steps: int
    observation_names: Callable[[mujoco.MjModel], list[str]]
    reward_terms: tuple[str, ...]
    reset: Callable[[Any, Any, Any], None]
    observe: Callable[[Any, Any], None]
    reward: Callable[[Any, Any, Any], float]
    terminated: Callable[[Any], bool] | None = None
    remember: Callable[[Any, Any], None] | None = None
    memory: int = 0
    uniform: int = 0
    normal: int = 0
    actuators: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    contact_forces: bool = False
    randomisation: Randomisation | None = None


@helper
def between(uniform, low, high):
    """A number uniform in [0, 1) stretched to [low, high)."""
    return low + (high - low) * uniform


@helper
def clip(value, low, high):
    """The value, or the limit that it exceeds."""
    return min(max(value, low), high)


@helper
def write_row(values, first, target, start):
    """Write values[first:], a row, into target from start on; returns where the next entry goes."""
    for index in range(first, values.shape[0]):
        target[start + index - first] = values[index]
    return start + values.shape[0] - first


@helper
def write_clipped(values, low, high, target, start):
    """Write a row into target from start on, clipped; returns where the next entry goes."""
    for index in range(values.shape[0]):
        target[start + index] = clip(values[index], low, high)
    return start + values.shape[0]


@helper
def write_bodies(values, target, start):
    """Write a table of bodies, without the world's row, into target from start on; returns the next entry's place."""
    columns = values.shape[1]
    for body in range(1, values.shape[0]):
        for column in range(columns):
            target[start + (body - 1) * columns + column] = values[body, column]
    return start + (values.shape[0] - 1) * columns


@helper
def sum_of_squares(values):
    """The sum of the squared entries of a row."""
    total = 0.0
    for index in range(values.shape[0]):
        total += values[index] * values[index]
    return total


def gymnasium_asset(name: str) -> str:
    """The path of a model that Gymnasium ships; Gymnasium itself is not imported."""
    found = importlib.util.find_spec("gymnasium")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"the model {name} comes with Gymnasium: pip install 'gymnasium[mujoco]'")
    return str(Path(found.origin).parent / "envs" / "mujoco" / "assets" / name)


def entry_names(model: mujoco.MjModel, quantity: str, first: int = 0) -> list[str]:
    """Names of the entries of a quantity of MjData, such as "qvel[0]" or "cinert[1][3]", from its first row on."""
    shape = getattr(mujoco.MjData(model), quantity).shape
    return [
        quantity + "".join(f"[{index}]" for index in (first + indices[0], *indices[1:]))
        for indices in np.ndindex(shape[0] - first, *shape[1:])
    ]
