"""What is particular to the MuJoCo tasks: their reward terms, the names of their numbers, their exact state."""

from __future__ import annotations

import logging
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

REWARD_TERMS = {
    "Ant-v5": ("reward_forward", "reward_ctrl", "reward_contact", "reward_survive"),
    "HalfCheetah-v5": ("reward_forward", "reward_ctrl"),
    "Hopper-v5": ("reward_forward", "reward_ctrl", "reward_survive"),
    "Humanoid-v5": ("reward_forward", "reward_ctrl", "reward_contact", "reward_survive"),
    "HumanoidStandup-v5": ("reward_linup", "reward_quadctrl", "reward_impact"),
    "InvertedDoublePendulum-v5": ("reward_survive", "distance_penalty", "velocity_penalty"),
    "InvertedPendulum-v5": ("reward_survive",),
    "Pusher-v5": ("reward_dist", "reward_ctrl", "reward_near"),
    "Reacher-v5": ("reward_dist", "reward_ctrl"),
    "Swimmer-v5": ("reward_forward", "reward_ctrl"),
    "Walker2d-v5": ("reward_forward", "reward_ctrl", "reward_survive"),
}

# These three tasks do not say how their observation is laid out.
OBSERVATION_NAMES = {
    "InvertedDoublePendulum-v5": (
        *("qpos[0]", "sin(qpos[1])", "sin(qpos[2])", "cos(qpos[1])", "cos(qpos[2])"),
        *("qvel[0]", "qvel[1]", "qvel[2]", "qfrc_constraint[0]"),
    ),
    "Pusher-v5": (
        *(f"qpos[{joint}]" for joint in range(7)),
        *(f"qvel[{joint}]" for joint in range(7)),
        *(f"xpos[{body}][{axis}]" for body in ("tips_arm", "object", "goal") for axis in range(3)),
    ),
    "Reacher-v5": (
        *("cos(qpos[0])", "cos(qpos[1])", "sin(qpos[0])", "sin(qpos[1])", "qpos[2]", "qpos[3]", "qvel[0]", "qvel[1]"),
        *(f"xpos[fingertip][{axis}]-xpos[target][{axis}]" for axis in range(2)),
    ),
}

# A step leaves these one substep behind qpos and qvel, and rewards take differences from them (the torso of Ant, the
# centre of mass of Humanoid). They are no part of the integration state and cannot be recomputed from it.
DERIVED_ARRAYS = (
    *("xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat", "subtree_com"),
    *("ten_length", "ten_velocity", "cinert", "cvel", "cacc", "cfrc_int", "cfrc_ext"),
    *("qacc", "qfrc_actuator", "qfrc_constraint", "actuator_force", "sensordata"),
)

_log = logging.getLogger(__name__)
_logged: set[str] = set()


def observation_names(task_id: str, environment: Any) -> tuple[str, ...]:
    """The O names of a MuJoCo task's observation, each an entry of MjData such as "qvel[0]" or "cinert[1][3]"."""
    if task_id in OBSERVATION_NAMES:
        return OBSERVATION_NAMES[task_id]
    names: list[str] = []
    for section, count in environment.observation_structure.items():
        if section == "skipped_qpos" or count == 0:
            continue
        array = getattr(environment.data, section)
        # What a task leaves out (the root's position, the world body) always stands first.
        for flat_index in range(array.size - count, array.size):
            indices = np.unravel_index(flat_index, array.shape)
            names.append(section + "".join(f"[{index}]" for index in indices))
    return tuple(names)


def actuator_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """The A names of a model's actuators; one without a name is called after what it drives, else by its index."""
    return tuple(_actuator_name(model, index) for index in range(model.nu))


def _actuator_name(model: mujoco.MjModel, index: int) -> str:
    drives_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT
    joint_name = model.joint(model.actuator_trnid[index, 0]).name if drives_joint else ""
    return model.actuator(index).name or joint_name or f"action[{index}]"


def integration_state(model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.float64]:
    """What mj_step integrates, the solver's warm start included, as one vector."""
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    return state


def derived_state(data: mujoco.MjData) -> NDArray[np.float64]:
    """DERIVED_ARRAYS as one vector."""
    return np.concatenate([getattr(data, name).ravel() for name in DERIVED_ARRAYS])


def restore(
    model: mujoco.MjModel, data: mujoco.MjData, integration: NDArray[np.float64], derived: NDArray[np.float64]
) -> None:
    """Put a world back where integration_state and derived_state found it.

    Raises ValueError when the vectors are of another model or MuJoCo version.
    """
    arrays = [getattr(data, name) for name in DERIVED_ARRAYS]
    wanted = (mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION), sum(array.size for array in arrays))
    if (integration.size, derived.size) != wanted:
        raise ValueError(
            f"the saved state has {integration.size} + {derived.size} numbers, this model under MuJoCo "
            f"{mujoco.__version__} has {wanted[0]} + {wanted[1]}; use the MuJoCo version that saved it"
        )
    mujoco.mj_setState(model, data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    start = 0
    for array in arrays:
        array[...] = derived[start : start + array.size].reshape(array.shape)
        start += array.size


def diverged(data: mujoco.MjData) -> bool:
    """Whether MuJoCo has thrown this world's state away, or its controls, since the last reset: not finite."""
    return bool(np.any(data.warning.number[mujoco.mjtWarning.mjWARN_BADQPOS :]))


def route_warnings_to_logging() -> None:
    """Send MuJoCo's warnings to Python's logging, each once, instead of to MUJOCO_LOG.TXT in the working folder.

    A handler that is installed already stays.
    """
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_log_once)


def _log_once(message: str) -> None:
    # The rest of a message carries the simulated time, which would make each one new.
    kind = message.partition(".")[0]
    if kind in _logged:
        return
    _logged.add(kind)
    # A deprecated word in a model file that Gymnasium ships is nothing that a user could act on.
    level = logging.INFO if "deprecated" in message else logging.WARNING
    _log.log(level, "MuJoCo: %s", message)
