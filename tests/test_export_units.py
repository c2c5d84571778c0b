"""Units and meanings in the contract follow the model."""

from __future__ import annotations

import mujoco
import pytest

import envs
from dsac.export.units import action_semantics, in_words, obs_units
from envs.mujoco_facts import actuator_names

MODEL = """
<mujoco>
  <worldbody>
    <body><joint name="rail" type="slide"/><geom size="1"/>
      <body><joint name="elbow" type="hinge"/><geom size="1"/></body>
    </body>
  </worldbody>
  <tendon><fixed name="string"><joint joint="elbow" coef="1"/></fixed></tendon>
  <actuator>
    <motor joint="elbow" gear="30"/>
    <motor joint="rail" gear="-2"/>
    <position joint="elbow" kp="50" kv="1"/>
    <velocity joint="rail" kv="7" gear="4"/>
    <motor tendon="string"/>
    <general joint="elbow" dyntype="filter" dynprm="0.1"/>
  </actuator>
</mujoco>
"""


def test_what_actuators_do():
    """Catches a servo that is taken for a motor, a gear that is left out, and a guess where the model does not tell."""
    model = mujoco.MjModel.from_xml_string(MODEL)
    told = [in_words(meaning) for meaning in action_semantics(model, actuator_names(model))]
    assert told == [
        "torque of joint elbow, 30 Nm per unit",
        "force of joint rail, -2 N per unit",
        "target position of joint elbow, 1 rad per unit",
        "target velocity of joint rail, 0.25 m/s per unit",
        "as the task defines it",
        "as the task defines it",
    ]
    for other in (None, model):  # no model, and a task that takes other actions than its actuators
        kinds = [meaning["kind"] for meaning in action_semantics(other, ["target (rad)"] * 6)]
        assert kinds == ["as the task defines it"] * 6


@pytest.mark.parametrize("task", envs.TASKS)
def test_every_observation_of_our_tasks_has_a_unit(task: str):
    """Catches a task whose entries the table of units does not know."""
    env = envs.make(task, 1, 0)
    units = obs_units(env.spec.obs_names, env.simulator(0)[0])
    assert None not in units


def test_units_of_a_humanoid():
    """Catches rotations and translations in the other's place, and a root that is not left out."""
    env = envs.make("Humanoid", 1, 0)
    units = dict(zip(env.spec.obs_names, obs_units(env.spec.obs_names, env.simulator(0)[0]), strict=True))
    expected = {
        "qpos[2]": "m", "qpos[3]": "1", "qpos[7]": "rad", "qvel[0]": "m/s", "qvel[3]": "rad/s", "qvel[6]": "rad/s",
        "cinert[1][0]": "kg m2", "cinert[1][6]": "kg m", "cinert[1][9]": "kg", "cvel[1][0]": "rad/s",
        "cvel[1][3]": "m/s", "qfrc_actuator[6]": "Nm", "cfrc_ext[1][2]": "Nm", "cfrc_ext[1][3]": "N",
    }  # fmt: skip
    assert {name: units[name] for name in expected} == expected
    assert obs_units(["speed (km/h)", "cos(swing)", "obs[3]"], None) == ["km/h", "1", None]
