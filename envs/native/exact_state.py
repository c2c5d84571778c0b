"""What a world's next step depends on in MjData and MjModel, as numbers to keep and to put back bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.native.physics import model_arrays, physics_arrays

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def physics_state(model: mujoco.MjModel, data: mujoco.MjData, with_derived: bool) -> np.ndarray:
    """What mj_step integrates, as one row of float64.

    with_derived: and all of Physics. What the last substep left there is a substep behind qpos and cannot be derived
    from it, which matters to a function that reads it before the next substep.
    """
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return np.concatenate([state, *(array.ravel() for array in physics_arrays(model, data) if with_derived)])


def restore_physics(model: mujoco.MjModel, data: mujoco.MjData, saved: np.ndarray) -> None:
    """Put back what physics_state returned."""
    first = mujoco.mj_stateSize(model, STATE)
    state = saved[:first]
    mujoco.mj_setState(model, data, state, STATE)
    # The forward pass derives positions and forces for whoever looks, and spoils the warm start.
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, state, STATE)
    for array in physics_arrays(model, data) if first < saved.size else ():
        array[...] = saved[first : first + array.size].reshape(array.shape)
        first += array.size


def model_state(model: mujoco.MjModel) -> list[np.ndarray]:
    """Copies of what a randomisation may change."""
    return [array.copy() for array in model_arrays(model)]


def restore_model(model: mujoco.MjModel, data: mujoco.MjData, saved: Sequence[np.ndarray]) -> None:
    """Put back what model_state returned."""
    for array, value in zip(model_arrays(model), saved, strict=True):
        array[:] = value
    mujoco.mj_setConst(model, data)
