"""Units of observations and meanings of actions, as far as names and the MuJoCo model tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from envs.mujoco_facts import actuator_names

POSITION = {"FREE": ("m", "m", "m", "1", "1", "1", "1"), "BALL": ("1",) * 4, "SLIDE": ("m",), "HINGE": ("rad",)}
VELOCITY = {"FREE": ("m/s",) * 3 + ("rad/s",) * 3, "BALL": ("rad/s",) * 3, "SLIDE": ("m/s",), "HINGE": ("rad/s",)}
FORCE = {"FREE": ("N",) * 3 + ("Nm",) * 3, "BALL": ("Nm",) * 3, "SLIDE": ("N",), "HINGE": ("Nm",)}
OF_JOINTS = {"qpos": POSITION, "qvel": VELOCITY, "qfrc_actuator": FORCE, "qfrc_constraint": FORCE}
OF_BODIES = {
    "cinert": ("kg m2",) * 6 + ("kg m",) * 3 + ("kg",),
    "cvel": ("rad/s",) * 3 + ("m/s",) * 3,
    "cfrc_ext": ("Nm",) * 3 + ("N",) * 3,
    "xpos": ("m",) * 3,
}
Meaning = dict[str, Any]
FIELDS = ("kind", "joint", "per_unit", "unit")
AS_DEFINED: Meaning = {"kind": "as the task defines it", "joint": None, "per_unit": None, "unit": None}


def obs_units(names: Sequence[str], model: mujoco.MjModel | None) -> list[str | None]:
    """The unit of each entry; None where neither a name such as "hoist (m/s)" nor the model tells."""
    kinds = [] if model is None else [mujoco.mjtJoint(kind).name.removeprefix("mjJNT_") for kind in model.jnt_type]
    of_joints = {quantity: sum((table[kind] for kind in kinds), ()) for quantity, table in OF_JOINTS.items()}
    return [unit_of(name, of_joints) for name in names]


def unit_of(name: str, of_joints: dict[str, tuple[str, ...]]) -> str | None:
    """The unit of one entry: in brackets at the end of its name, or that of an entry of MjData."""
    if name.startswith(("sin(", "cos(")):
        return "1"
    if written := re.search(r"\(([^()]*)\)$", name):
        return written[1]
    entry = re.match(r"(\w+)((?:\[\w+\])+)", name)
    if entry is None:
        return None
    quantity, index = entry[1], entry[2].strip("[]").split("][")[-1]
    units = of_joints.get(quantity) or OF_BODIES.get(quantity, ())
    return units[int(index)] if index.isdigit() and int(index) < len(units) else None


def action_semantics(model: mujoco.MjModel | None, names: Sequence[str]) -> list[Meaning]:
    """What each action does, from the gains of the actuators of these names; a task may take other actions."""
    if model is None or actuator_names(model) != tuple(names):
        return [AS_DEFINED] * len(names)
    return [meaning(model, index) for index in range(model.nu)]


def meaning(model: mujoco.MjModel, index: int) -> Meaning:
    """What one actuator does: a torque or a force per unit, or a target that a servo at the joint follows."""
    through = mujoco.mjtTrn(model.actuator_trntype[index])
    at_joint = through in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
    constant = model.actuator_gaintype[index] == mujoco.mjtGain.mjGAIN_FIXED
    stateless = model.actuator_dyntype[index] == mujoco.mjtDyn.mjDYN_NONE
    if not (at_joint and constant and stateless and model.actuator_gear[index, 0]):
        return AS_DEFINED
    joint = model.joint(model.actuator_trnid[index, 0])
    kind = mujoco.mjtJoint(model.jnt_type[joint.id])
    if kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
        return AS_DEFINED
    turns = kind == mujoco.mjtJoint.mjJNT_HINGE
    gain, gear = float(model.actuator_gainprm[index, 0]), float(model.actuator_gear[index, 0])
    bias = np.asarray(model.actuator_biasprm[index, :3])
    found: tuple[str, float, str] | None = None
    if model.actuator_biastype[index] == mujoco.mjtBias.mjBIAS_NONE or not bias.any():
        found = ("torque", gain * gear, "Nm") if turns else ("force", gain * gear, "N")
    elif bias[0] == 0 and bias[1] == -gain:
        found = ("target position", 1 / gear, "rad" if turns else "m")
    elif bias[0] == 0 and bias[1] == 0 and bias[2] == -gain:
        found = ("target velocity", 1 / gear, "rad/s" if turns else "m/s")
    return AS_DEFINED if found is None else dict(zip(FIELDS, (found[0], joint.name, *found[1:]), strict=True))


def in_words(meaning: Meaning) -> str:
    """A meaning as a line of text."""
    if meaning["joint"] is None:
        return str(meaning["kind"])
    return f"{meaning['kind']} of joint {meaning['joint']}, {meaning['per_unit']:g} {meaning['unit']} per unit"
