"""The physics of a recorded run and nothing else: what an engine that costs nothing would take, for benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
from numba import carray, njit, types

from envs.native.compile_cache import kernel
from envs.native.libmujoco import double_pointer, mj_step, pointer
from envs.native.thread_pool import NEXT_WORLD, STOP, WORLDS_DONE, add_one, await_notice, notify, read, yield_processor
from envs.native.worlds import LONGS

_mj_set_state = types.ExternalFunction(
    "mj_setState", types.void(types.voidptr, types.voidptr, types.voidptr, types.int32)
)
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class Recording(NamedTuple):
    """A recorded run of N worlds over T actions, and the position in it."""

    pool: Any  # (64,) int64, see envs/native/thread_pool.py
    model: Any  # (1,) int64 address of mjModel
    data: Any  # (N,) int64 addresses of mjData
    ctrl: Any  # (N,) int64 addresses of its controls
    controls: Any  # (T, N, A) float64 in the task's units
    states: Any  # (T, N, I) float64 integration states, taken where has_reset says so
    has_reset: Any  # (T, N) bool
    position: Any  # (2,) int64 the step, and the number of substeps to an action


_block = types.Array(types.float64, 3, "C")
RECORDING_TYPE = types.NamedTuple(
    [LONGS, LONGS, LONGS, LONGS, _block, _block, types.Array(types.boolean, 2, "C"), LONGS], Recording
)


@njit
def _replay_remaining(recording):
    while True:
        world = add_one(recording.pool, NEXT_WORLD)
        if world >= recording.data.shape[0]:
            break
        # A helper that is late for the last step finds itself in the next one.
        step = recording.position[0]
        model, data = pointer(recording.model[0]), pointer(recording.data[world])
        ctrl = carray(double_pointer(recording.ctrl[world]), (recording.controls.shape[2],))
        for entry in range(ctrl.shape[0]):
            ctrl[entry] = recording.controls[step, world, entry]
        for _ in range(recording.position[1]):
            mj_step(model, data)
        if recording.has_reset[step, world]:
            _mj_set_state(model, data, pointer(recording.states[step, world].ctypes.data), STATE)
        add_one(recording.pool, WORLDS_DONE)


@kernel(types.void(RECORDING_TYPE))
def replay(recording):
    """Step the worlds through the whole recording; each step waits for all, as whoever chooses actions must."""
    for step in range(recording.controls.shape[0]):
        recording.position[0] = step
        notify(recording.pool)
        while read(recording.pool, WORLDS_DONE) < recording.data.shape[0]:
            _replay_remaining(recording)
            yield_processor()


@kernel(types.void(RECORDING_TYPE, types.int64))
def replay_in_pool(recording, _slot):
    """What a helping thread does until the pool is dismissed."""
    seen = 0
    while True:
        seen = await_notice(recording.pool, seen)
        if read(recording.pool, STOP) != 0:
            return
        _replay_remaining(recording)
