"""What a task's functions see of one world: the simulator's own memory as named rows and tables of doubles.

Nothing is copied: the arrays lie in mjData and mjModel. Quantities that MuJoCo derives from the state (positions of
bodies, forces) are those of the last forward pass, one substep before qpos and qvel, exactly as in Gymnasium.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from numba import carray, njit, types

from envs.native.libmujoco import double_pointer


class Physics(NamedTuple):
    """One world as a task reads it, in SI units; frames are the world's unless MuJoCo's documentation says otherwise.

    bodies, sites, sensors   rows of the names that the task uses, in its order (sensors: first entry in sensordata)
    dt, timestep             seconds between two actions, and of one substep
    """

    qpos: Any  # (nq,) positions
    qvel: Any  # (nv,) velocities
    act: Any  # (na,) actuator activations
    ctrl: Any  # (nu,) the action in the task's units, clipped to its limits
    qacc: Any  # (nv,)
    qfrc_actuator: Any  # (nv,) actuator forces in joint space
    qfrc_constraint: Any  # (nv,) constraint forces in joint space
    actuator_force: Any  # (nu,)
    sensordata: Any  # (nsensordata,)
    ten_length: Any  # (ntendon,)
    body_mass: Any  # (nbody,) of this world's model
    xpos: Any  # (nbody, 3) body frames
    xquat: Any  # (nbody, 4)
    xipos: Any  # (nbody, 3) centres of mass
    subtree_com: Any  # (nbody, 3)
    cinert: Any  # (nbody, 10) inertia and mass about the centre of mass
    cvel: Any  # (nbody, 6) velocity about the centre of mass: rotation, translation
    cfrc_ext: Any  # (nbody, 6) external forces, filled where the task sets contact_forces
    xfrc_applied: Any  # (nbody, 6) what pushes each body, force (N) then torque (Nm); stays until it is written again
    site_xpos: Any  # (nsite, 3)
    geom_xpos: Any  # (ngeom, 3)
    mocap_pos: Any  # (nmocap, 3) bodies that nothing moves but reset
    bodies: Any
    sites: Any
    sensors: Any
    dt: Any
    timestep: Any


class Noise(NamedTuple):
    """Numbers drawn anew from an env's own generator, as many as the task asks for."""

    uniform: Any  # (U,) in [0, 1)
    normal: Any  # (V,) mean 0, deviation 1


class Model(NamedTuple):
    """The parts of a world's MjModel that a randomising function may change at reset, in SI units."""

    body_mass: Any  # (nbody,)
    body_inertia: Any  # (nbody, 3)
    body_ipos: Any  # (nbody, 3)
    geom_friction: Any  # (ngeom, 3)
    jnt_stiffness: Any  # (njnt,)
    dof_damping: Any  # (nv,)
    dof_armature: Any  # (nv,)
    dof_frictionloss: Any  # (nv,)
    actuator_gainprm: Any  # (nu, 10)
    actuator_biasprm: Any  # (nu, 10)
    actuator_gear: Any  # (nu, 6)
    gravity: Any  # (3,)


NOT_IN_MEMORY = ("bodies", "sites", "sensors", "dt", "timestep")
PHYSICS_ARRAYS = tuple(name for name in Physics._fields if name not in NOT_IN_MEMORY)
_FIRST_TABLE = PHYSICS_ARRAYS.index("xpos")

_ROW = types.Array(types.float64, 1, "C")
_TABLE = types.Array(types.float64, 2, "C")
_NAMES = types.Array(types.int64, 1, "C")
PHYSICS_TYPE = types.NamedTuple(
    [_ROW if index < _FIRST_TABLE else _TABLE for index in range(len(PHYSICS_ARRAYS))]
    + [_NAMES, _NAMES, _NAMES, types.float64, types.float64],
    Physics,
)
NOISE_TYPE = types.NamedUniTuple(_ROW, 2, Noise)
_MODEL_TABLES = ("body_inertia", "body_ipos", "geom_friction", "actuator_gainprm", "actuator_biasprm", "actuator_gear")
MODEL_TYPE = types.NamedTuple([_TABLE if name in _MODEL_TABLES else _ROW for name in Model._fields], Model)


def physics_arrays(model: mujoco.MjModel, data: mujoco.MjData) -> list[np.ndarray]:
    """The live arrays behind a Physics, in its order."""
    return [getattr(model if name == "body_mass" else data, name) for name in PHYSICS_ARRAYS]


def model_arrays(model: mujoco.MjModel) -> list[np.ndarray]:
    """The live arrays behind a Model, in its order."""
    return [model.opt.gravity if name == "gravity" else getattr(model, name) for name in Model._fields]


def addresses_of(arrays: list[np.ndarray]) -> list[int]:
    """Where the arrays lie in memory."""
    return [array.ctypes.data for array in arrays]


def shapes_of(arrays: list[np.ndarray]) -> np.ndarray:
    """The shapes of rows and tables as one (fields, 2) int64 array; a row has 1 in the second column."""
    return np.array([(*array.shape, 1)[:2] for array in arrays], dtype=np.int64)


@njit
def row(addresses, shapes, field):
    """Row number `field` of a world's memory, (entries,) float64."""
    return carray(double_pointer(addresses[field]), (shapes[field, 0],))


@njit
def table(addresses, shapes, field):
    """Table number `field` of a world's memory, (entries, columns) float64."""
    return carray(double_pointer(addresses[field]), (shapes[field, 0], shapes[field, 1]))


@njit
def physics_at(a, s, bodies, sites, sensors, dt, timestep):
    """The Physics of the world whose arrays have the addresses a, (fields,), and shapes s, (fields, 2)."""
    return Physics(
        row(a, s, 0), row(a, s, 1), row(a, s, 2), row(a, s, 3), row(a, s, 4), row(a, s, 5),
        row(a, s, 6), row(a, s, 7), row(a, s, 8), row(a, s, 9), row(a, s, 10),
        table(a, s, 11), table(a, s, 12), table(a, s, 13), table(a, s, 14), table(a, s, 15),
        table(a, s, 16), table(a, s, 17), table(a, s, 18), table(a, s, 19), table(a, s, 20), table(a, s, 21),
        bodies, sites, sensors, dt, timestep,
    )  # fmt: skip


@njit
def model_at(a, s):
    """The Model whose arrays have the addresses a, (fields,), and shapes s, (fields, 2)."""
    return Model(
        row(a, s, 0), table(a, s, 1), table(a, s, 2), table(a, s, 3), row(a, s, 4), row(a, s, 5),
        row(a, s, 6), row(a, s, 7), table(a, s, 8), table(a, s, 9), table(a, s, 10), row(a, s, 11),
    )  # fmt: skip
