"""Model files as people have them: what MuJoCo reads is trained on wherever it lies, what it cannot is one line."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import envs
from envs.contract import EnvironmentFault, UnsuitableEnvironment

TASK = """
from envs.task import Task

def reset(physics, state, noise):
    physics.qpos[0] += 0.01 * noise.normal[0]

def observe(physics, state, noise, observation):
    observation[0] = physics.qpos[0]
    observation[1] = physics.qvel[0]

def reward(physics, state, terms):
    return -physics.ctrl[0] ** 2

TASK = Task(
    id="Tiny-v0", xml=None, frame_skip=2, max_episode_steps=50, observation_names=lambda model: ["q", "v"],
    reward_terms=(), reset=reset, observe=observe, reward=reward, normal=1,
)
"""
JOINT = '<joint name="j" axis="0 1 0" range="-2 2"/>'
ROD = '<geom type="capsule" size=".05" fromto="0 0 0 0 0 .4"/>'
MOTOR = '<actuator><motor name="m" joint="j" ctrlrange="-1 1" gear="2"/></actuator>'
MUSCLE = '<actuator><muscle name="m" tendon="t" ctrlrange="0 1"/></actuator>'
TENDON = '<tendon><spatial name="t"><site site="s0"/><site site="s1"/></spatial></tendon>'
HAND = '<body name="hand" mocap="true" pos="0 0 1.4"/>'
WELD = '<equality><connect body1="b" body2="hand" anchor="0 0 .4"/></equality>'
MESH = '<compiler meshdir="mesh dir"/><asset><mesh name="t" file="tetra é.stl"/></asset>'
DEFAULTS = '<default><default class="a"><joint damping="1"/><motor ctrlrange="-2 2"/></default></default>'


def arm(inner: str = ROD, joint: str = JOINT, beside: str = "") -> str:
    """A world of one body on one joint."""
    return f'<worldbody>{beside}<body name="b" pos="0 0 1">{joint}{inner}</body></worldbody>'


GOOD = {
    "mesh": (MESH + arm('<geom type="mesh" mesh="t"/>') + MOTOR, (-1, 1)),
    "include": (arm('<include file="arm part.xml"/>') + MOTOR, (-1, 1)),
    "muscle": (arm(ROD + '<site name="s1" pos=".1 0 .3"/>', beside='<site name="s0"/>') + TENDON + MUSCLE, (0, 1)),
    "mocap": (arm(beside=HAND) + WELD + MOTOR, (-1, 1)),
    "keyframe": (arm() + MOTOR + '<keyframe><key qpos="0.5" ctrl="0.2"/></keyframe>', (-1, 1)),
    "defaults": (DEFAULTS + arm() + '<actuator><motor class="a" joint="j"/></actuator>', (-2, 2)),
    "sensors": (arm(ROD + '<site name="i"/>') + MOTOR + '<sensor><gyro site="i" noise=".1"/></sensor>', (-1, 1)),
}
BROKEN = {
    "no file": (None, EnvironmentFault, "cannot read .*no file.*"),
    "no mesh": (
        '<asset><mesh name="t" file="nowhere.stl"/></asset>' + arm('<geom type="mesh" mesh="t"/>') + MOTOR,
        EnvironmentFault,
        r"cannot read .*nowhere\.stl",
    ),
    "half": ("<worldbody><body>", EnvironmentFault, "cannot read .*Line number=1.*body"),
    "no mass": (arm('<geom size=".1" mass="1e-20"/>') + MOTOR, EnvironmentFault, "cannot read .*mass.*'b'"),
    "no actuator": (arm(), UnsuitableEnvironment, "has no actuator; actions need limits"),
    "no limits": (
        arm() + '<actuator><position name="m" joint="j"/></actuator>',
        UnsuitableEnvironment,
        r"gives no ctrlrange to the actuators \['m'\]",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with a space and an umlaut in its name, and the module tiny_task."""
    folder = tmp_path / "models ü"
    (folder / "mesh dir").mkdir(parents=True)
    (tmp_path / "tiny_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tiny_task", raising=False)
    corners = [(0, 0, 0), (0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1)]
    faces = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
    triangles = [struct.pack("<12fH", 0, 0, 0, *(x for at in face for x in corners[at]), 0) for face in faces]
    (folder / "mesh dir" / "tetra é.stl").write_bytes(bytes(80) + struct.pack("<I", 4) + b"".join(triangles))
    (folder / "arm part.xml").write_text(f"<mujocoinclude>{ROD}</mujocoinclude>")
    return folder


def model(folder: Path, name: str, text: str | None) -> str:
    """The path of a model file; of none where there is no text."""
    path = folder / f"{name} robot.xml"
    if text is not None:
        path.write_text(f"<mujoco>{text}</mujoco>")
    return str(path)


@pytest.mark.parametrize("name", GOOD)
def test_a_model_that_mujoco_reads_is_stepped(name: str, folder: Path):
    """Catches a mesh or an include that is looked for elsewhere, and a kind of actuator that is not known."""
    text, limits = GOOD[name]
    worlds = envs.make("custom", 2, 0, xml=model(folder, name, text), task="tiny_task")
    assert (worlds.spec.action_low[0], worlds.spec.action_high[0]) == limits
    first = worlds.step(np.full((2, 1), -1, np.float32))
    for _ in range(20):
        step = worlds.step(np.full((2, 1), 1, np.float32))
    worlds.close()
    assert not step.invalid.any()
    assert not np.array_equal(step.next_obs, first.next_obs)


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_cannot_be_used_is_one_line(name: str, folder: Path):
    """Catches a traceback, several lines, and a refusal that does not say which file and part it is about."""
    text, error, reason = BROKEN[name]
    with pytest.raises(error, match=reason) as refusal:
        envs.make("custom", 2, 0, xml=model(folder, name, text), task="tiny_task")
    assert f"{name} robot.xml" in str(refusal.value)
    assert str(refusal.value).isprintable()
