"""The physics of a recorded run and nothing else: what an engine that costs nothing would take, for benchmarks."""

from __future__ import annotations

import mujoco
from numba import carray, njit, prange, types

from envs.compiling import kernel
from envs.libmujoco import double_pointer, fetch_add, mj_step, pointer

_mj_set_state = types.ExternalFunction(
    "mj_setState", types.void(types.voidptr, types.voidptr, types.voidptr, types.int32)
)
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@njit
def _replay_some(model, data, ctrl, controls, states, has_reset, frame_skip, next_world):
    while True:
        world = fetch_add(next_world.ctypes.data)
        if world >= data.shape[0]:
            break
        target = carray(double_pointer(ctrl[world]), (controls.shape[1],))
        for entry in range(controls.shape[1]):
            target[entry] = controls[world, entry]
        for _ in range(frame_skip):
            mj_step(pointer(model), pointer(data[world]))
        if has_reset[world]:
            _mj_set_state(pointer(model), pointer(data[world]), pointer(states[world].ctypes.data), STATE)


_longs = types.Array(types.int64, 1, "C")
_block = types.Array(types.float64, 3, "C")


@kernel(
    types.void(
        types.int64,
        _longs,
        _longs,
        _block,
        _block,
        types.Array(types.boolean, 2, "C"),
        types.int64,
        types.int64,
        _longs,
    ),
    parallel=True,
)
def replay(model, data, ctrl, controls, states, has_reset, frame_skip, threads, next_world):
    """Step N worlds through T actions; at the end of a step each waits for all, as whoever chooses actions must.

    data, ctrl   (N,) addresses of mjData and of its controls
    controls     (T, N, A) float64 in the task's units
    states       (T, N, I) float64 integration states, taken where has_reset (T, N) says so
    next_world   (1,) scratch
    """
    for step in range(controls.shape[0]):
        next_world[0] = 0
        for _ in prange(threads):
            _replay_some(model, data, ctrl, controls[step], states[step], has_reset[step], frame_skip, next_world)
