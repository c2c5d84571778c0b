"""The memory of the worlds as the kernels see it, and the signatures of a task's compiled functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types

from envs.contract import Step
from envs.native.libmujoco import typed_pointer
from envs.native.physics import MODEL_TYPE, NOISE_TYPE, PHYSICS_TYPE, Noise


def _array(scalar: Any, dimensions: int) -> Any:
    return types.Array(scalar, dimensions, "C")


DOUBLES, FLOATS = _array(types.float64, 1), _array(types.float32, 1)
_TYPES = {
    "physics": PHYSICS_TYPE,
    "state": DOUBLES,
    "noise": NOISE_TYPE,
    "action": DOUBLES,
    "observation": FLOATS,
    "terms": FLOATS,
    "model": MODEL_TYPE,
    "nominal": MODEL_TYPE,
}
# What a task's functions take, by the name of their field in Task, and a randomisation's by that in Functions.
ARGUMENTS = {
    "reset": ("physics", "state", "noise"),
    "command": ("physics", "state", "noise"),
    "actuate": ("physics", "state", "action", "noise"),
    "observe": ("physics", "state", "noise", "observation"),
    "privileged": ("physics", "state", "observation"),
    "reward": ("physics", "state", "terms"),
    "terminated": ("physics", "state"),
    "randomise": ("model", "nominal", "noise"),
}
_RETURNED = {"reward": types.float64, "terminated": types.boolean}
SIGNATURES = {
    name: _RETURNED.get(name, types.void)(*(_TYPES[argument] for argument in arguments))
    for name, arguments in ARGUMENTS.items()
}


class Functions(NamedTuple):
    """Addresses of a task's compiled functions; 0 where the task has none."""

    reset: int
    command: int
    actuate: int
    observe: int
    privileged: int
    reward: int
    terminated: int
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
    state: Any  # * (N, M) float64 the task's own numbers, zero at the start of an episode
    generators: Any  # * (N, 4) uint64
    episode_step: Any  # * (N,) int64
    last_obs: Any  # * (N, O) float32
    privileged: Any  # * (N, P) float32 for the critic alone, beside last_obs
    next_privileged: Any  # (N, P) float32 beside the result's next_obs
    reset_noise: Any  # Noise of tables (N, ...) float64, of the last reset
    step_noise: Any  # of the last step
    model_noise: Any  # of the last change of the model
    task_action: Any  # (N, A) float64 the actions of this step in the task's units, where the task actuates
    warnings: Any  # * (N, kinds) int64, counted since the start
    in_flight: Any  # (threads, 8) int64 who steps what, for the message of a fatal error
    pool: Any  # (64,) int64 what the threads share, see envs/native/thread_pool.py
    action: Any  # (N, A) float32 the actions of this step
    result: Any  # a Step, the answer to them
    report: Any  # (3,) int64: a world with an action that is not finite, with such a reset, if any warned or failed


LONGS = _array(types.int64, 1)
LONG_TABLE = _array(types.int64, 2)
FLOAT_TABLE = _array(types.float32, 2)
FLAGS = _array(types.boolean, 1)
FUNCTIONS_TYPE = types.NamedUniTuple(types.int64, len(Functions._fields), Functions)
SETTINGS_TYPE = types.NamedTuple(
    [types.int64, types.int64, types.boolean, types.boolean, types.int64, types.float64, types.float64], Settings
)
STEP_TYPE = types.NamedTuple([FLOAT_TABLE, FLOATS, FLAGS, FLAGS, FLOAT_TABLE, FLOAT_TABLE, FLAGS], Step)
PACKED = LONG_TABLE


def pack(worlds: Worlds) -> np.ndarray:
    """Where the arrays of Worlds lie and how long they are, (arrays, 3) int64.

    Kernels take this one array: unpacking thirty costs more than stepping a light robot, and views that numba does not
    count references to spare the threads wresting the counts from one another. Whoever calls a kernel holds the arrays.
    """
    arrays = [array for field in worlds for array in (field if isinstance(field, tuple) else (field,))]
    return np.array([(array.ctypes.data, *(*array.shape, 1)[:2]) for array in arrays], dtype=np.int64)


def _view(scalar: Any, dimensions: int) -> Any:
    place = typed_pointer(scalar)
    if dimensions == 1:
        return njit(lambda packed, index: carray(place(packed[index, 0]), (packed[index, 1],)))
    return njit(lambda packed, index: carray(place(packed[index, 0]), (packed[index, 1], packed[index, 2])))


_longs, _long_table = _view(types.int64, 1), _view(types.int64, 2)
_floats, _float_table = _view(types.float32, 1), _view(types.float32, 2)
_double_table, _word_table, _flags = _view(types.float64, 2), _view(types.uint64, 2), _view(types.boolean, 1)


@njit
def unpack(p):
    """The Worlds whose arrays lie where pack says."""
    return Worlds(
        _long_table(p, 0), _long_table(p, 1), _long_table(p, 2), _long_table(p, 3), _long_table(p, 4), _longs(p, 5),
        _longs(p, 6), _longs(p, 7), _longs(p, 8), _floats(p, 9), _floats(p, 10), _double_table(p, 11),
        _word_table(p, 12), _longs(p, 13), _float_table(p, 14), _float_table(p, 15), _float_table(p, 16),
        Noise(_double_table(p, 17), _double_table(p, 18)), Noise(_double_table(p, 19), _double_table(p, 20)),
        Noise(_double_table(p, 21), _double_table(p, 22)), _double_table(p, 23), _long_table(p, 24),
        _long_table(p, 25), _longs(p, 26), _float_table(p, 27),
        Step(
            _float_table(p, 28), _floats(p, 29), _flags(p, 30), _flags(p, 31), _float_table(p, 32),
            _float_table(p, 33), _flags(p, 34),
        ),
        _longs(p, 35),
    )  # fmt: skip
