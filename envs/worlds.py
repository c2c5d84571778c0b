"""The memory of the worlds as the kernels see it, and the signatures of a task's compiled functions."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite.ir import Constant
from numba import njit, types
from numba.extending import intrinsic

from envs.contract import Step
from envs.physics import MODEL_TYPE, PHYSICS_TYPE


def _array(scalar: Any, dimensions: int) -> Any:
    return types.Array(scalar, dimensions, "C")


DOUBLES, FLOATS = _array(types.float64, 1), _array(types.float32, 1)
RESET = types.void(PHYSICS_TYPE, DOUBLES, DOUBLES)
OBSERVE = types.void(PHYSICS_TYPE, FLOATS)
REWARD = types.float64(PHYSICS_TYPE, DOUBLES, FLOATS)
TERMINATED = types.boolean(PHYSICS_TYPE)
REMEMBER = types.void(PHYSICS_TYPE, DOUBLES)
RANDOMISE = types.void(MODEL_TYPE, MODEL_TYPE, DOUBLES, DOUBLES)


class Functions(NamedTuple):
    """Addresses of a task's compiled functions; 0 where the task has none."""

    reset: int
    observe: int
    reward: int
    terminated: int
    remember: int
    randomise: int


class Settings(NamedTuple):
    """What is the same in all worlds; dt and timestep in seconds."""

    frame_skip: int
    max_episode_steps: int
    contact_forces: bool
    unit_actions: bool
    first_divergence: int  # MuJoCo's warning number from which on a warning means that the state was thrown away
    dt: float
    timestep: float


class Worlds(NamedTuple):
    """The memory of N worlds. What is marked * is part of their state, beside MuJoCo's own."""

    handles: Any  # (N, 3) int64 addresses of mjModel, mjData and the warning counters
    addresses: Any  # (N, fields) int64 of the arrays of Physics
    shapes: Any  # (fields, 2) int64
    model_addresses: Any  # (N, fields) int64 of the arrays of Model
    model_shapes: Any  # (fields, 2) int64
    nominal_addresses: Any  # (fields,) int64 of the unchanged Model
    bodies: Any
    sites: Any
    sensors: Any
    low: Any  # (A,) float32
    high: Any  # (A,) float32
    memory: Any  # * (N, M) float64 what the task remembers
    generators: Any  # * (N, 4) uint64
    episode_step: Any  # * (N,) int64
    last_obs: Any  # * (N, O) float32
    uniform: Any  # (N, U) float64 noise of the last reset
    normal: Any  # (N, V) float64
    model_uniform: Any  # (N, U) float64
    model_normal: Any  # (N, V) float64
    warnings: Any  # * (N, kinds) int64, counted since the start
    roster: Any  # (threads, 8) int64 who steps what, for the message of a fatal error
    crew: Any  # (64,) int64 what the threads share, see envs/crew.py
    action: Any  # (N, A) float32 the actions of this step
    result: Any  # a Step, the answer to them
    report: Any  # (3,) int64: a world with a non-finite action, one whose reset is not finite, whether there is something to tell


LONGS = _array(types.int64, 1)
LONG_TABLE = _array(types.int64, 2)
DOUBLE_TABLE = _array(types.float64, 2)
FLOAT_TABLE = _array(types.float32, 2)
FLAGS = _array(types.boolean, 1)
FUNCTIONS_TYPE = types.NamedUniTuple(types.int64, len(Functions._fields), Functions)
SETTINGS_TYPE = types.NamedTuple(
    [types.int64, types.int64, types.boolean, types.boolean, types.int64, types.float64, types.float64], Settings
)
STEP_TYPE = types.NamedTuple([FLOAT_TABLE, FLOATS, FLAGS, FLAGS, FLOAT_TABLE, FLOAT_TABLE, FLAGS], Step)
WORLDS_TYPE = types.NamedTuple(
    [LONG_TABLE] * 5
    + [LONGS] * 4
    + [FLOATS] * 2
    + [DOUBLE_TABLE, _array(types.uint64, 2), LONGS, FLOAT_TABLE]
    + [DOUBLE_TABLE] * 4
    + [LONG_TABLE, LONG_TABLE, LONGS, FLOAT_TABLE, STEP_TYPE, LONGS],
    Worlds,
)


@intrinsic
def _borrow(typing_context, array):
    def generate(context, builder, signature, arguments):
        view = context.make_array(array)(context, builder, value=arguments[0])
        view.meminfo = Constant(view.meminfo.type, None)
        view.parent = Constant(view.parent.type, None)
        return view._getvalue()

    return array(array), generate


@njit
def borrowed_step(step):
    """A Step of the same arrays, uncounted; see borrowed."""
    return Step(
        _borrow(step.next_obs), _borrow(step.reward), _borrow(step.terminated), _borrow(step.truncated),
        _borrow(step.obs), _borrow(step.reward_terms), _borrow(step.invalid),
    )  # fmt: skip


@njit
def borrowed(w):
    """Worlds of the same arrays without their reference counts, which threads would wrest from one another.

    The caller of a kernel holds the arrays for as long as it runs.
    """
    return Worlds(
        _borrow(w.handles), _borrow(w.addresses), _borrow(w.shapes), _borrow(w.model_addresses),
        _borrow(w.model_shapes), _borrow(w.nominal_addresses), _borrow(w.bodies), _borrow(w.sites),
        _borrow(w.sensors), _borrow(w.low), _borrow(w.high), _borrow(w.memory), _borrow(w.generators),
        _borrow(w.episode_step), _borrow(w.last_obs), _borrow(w.uniform), _borrow(w.normal), _borrow(w.model_uniform),
        _borrow(w.model_normal), _borrow(w.warnings), _borrow(w.roster), _borrow(w.crew), _borrow(w.action),
        borrowed_step(w.result), _borrow(w.report),
    )  # fmt: skip
