"""What a task file says: a robot's model, and small functions over plain rows of numbers.

An episode begins with state at 0: reset, MuJoCo's forward pass, command, observe, privileged.
Each env step: actuate and mj_step, frame_skip times; reward, terminated, command, observe, privileged.

So the policy observes what `command` has just chosen, and reward judges the step by what the policy observed. Each
function may write into state, which is saved, restored and forked with the simulator.

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

    change           (model, nominal, noise): writes into model (envs.native.physics.Model), which still holds what the
                     last reset made of it, from the unchanged nominal
    uniform, normal  how many numbers noise.uniform and noise.normal hold
    """

    change: Callable[[Any, Any, Any], None]
    uniform: int = 0
    normal: int = 0


class Action(NamedTuple):
    """One entry of the actions of a task that has `actuate`: its name, with its unit in brackets, and its limits."""

    name: str
    low: float
    high: float


class Task(NamedTuple):
    """One task for one robot. O observation entries, A actions, K reward terms, M entries of state.

    physics is an envs.native.physics.Physics, state a row (M,) of float64. noise has two rows from the env's own
    generator: noise.uniform in [0, 1), and noise.normal with mean 0 and deviation 1. They hold `uniform` and `normal`
    numbers for reset, and `step_uniform` and `step_normal` for the others, drawn anew at each step. Only observe and
    reward must be there.

    id                   name with version, "HalfCheetah-v5"
    xml                  path of the MJCF file; None where the user names it
    frame_skip           physics substeps to an action
    max_episode_steps    actions after which the clock truncates an episode
    observation_names    model -> the O names of the observation's entries, in order
    reward_terms         K names of the parts of the reward
    observe              (physics, state, noise, observation): writes all of observation, (O,) float32
    reward               (physics, state, terms) -> reward; writes its parts into terms, (K,) float32
    terminated           (physics, state) -> bool, the task ended; None: it never does
    reset                (physics, state, noise): writes physics.qpos and physics.qvel, which hold the model's own
                         initial state
    command              (physics, state, noise): writes what holds until the next step: commands, the phase of a gait,
                         the place that the reward is measured from, a push in physics.qvel or physics.xfrc_applied
    actuate              (physics, state, action, noise): writes physics.ctrl from action, (A,), in the units and limits
                         of `actions`; runs before every substep, so a PD loop closes every physics.timestep seconds;
                         None: the action is the ctrl
    privileged           (physics, state, observation): writes what the critic alone sees, an entry for each of
                         privileged_names, float32
    state                M names of the entries of state, each with its unit in brackets
    actions              the A actions that actuate takes; empty: one for each actuator, with its name and ctrlrange
    uniform, normal, step_uniform, step_normal    how many numbers of noise, as above
    bodies, sites, sensors                        names that the functions use, as physics.bodies[0], ...
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
    observe: Callable[[Any, Any, Any, Any], None]
    reward: Callable[[Any, Any, Any], float]
    terminated: Callable[[Any, Any], bool] | None = None
    reset: Callable[[Any, Any, Any], None] | None = None
    command: Callable[[Any, Any, Any], None] | None = None
    actuate: Callable[[Any, Any, Any, Any], None] | None = None
    privileged: Callable[[Any, Any, Any], None] | None = None
    privileged_names: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    uniform: int = 0
    normal: int = 0
    step_uniform: int = 0
    step_normal: int = 0
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
