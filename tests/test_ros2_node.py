"""The ROS 2 node of the documents, run against stand-ins for the few names of rclpy that it uses."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export_runs import SMALL, exported, untrained_run

import envs
from dsac import load_policy

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
NODE = Path(__file__).parent.parent / "examples" / "ros2" / "policy_node.py"
CRANE = {"env.xml": "examples/crane/crane.xml", "env.task": "examples.crane.task"}
JOINTS = ("hoist", "swing", "trolley")  # not the order of the observations


class StandIn:
    """rclpy's Node: remembers what it is given, and has a clock that the test moves."""

    def __init__(self, name: str) -> None:
        self.now, self.sent, self.told = 0.0, [], []
        self.timer: tuple[float, Any] | None = None

    def create_subscription(self, kind: Any, topic: str, callback: Any, depth: int) -> None: ...

    def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
        return SimpleNamespace(publish=lambda message: self.sent.append(message.data))

    def create_timer(self, period: float, callback: Any) -> None:
        self.timer = (period, callback)

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=int(self.now * 1e9)))

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=lambda text, **_: self.told.append(text))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The node beside an export of the crane, and the policy that it runs."""
    words = [f"{key}={value}" for key, value in CRANE.items()]
    run = untrained_run(tmp_path / "runs", "custom", "ppo", *words, *SMALL)
    task = {"env.task": CRANE["env.task"]}
    out = exported(run, format="onnx", safe_action="[0,0.5]", out=tmp_path / "out", **task)
    shutil.copy(NODE, out)
    message = {"Vector3": "geometry_msgs", "JointState": "sensor_msgs", "Float64MultiArray": "std_msgs"}
    for name, package in message.items():
        module = ModuleType(f"{package}.msg")
        setattr(module, name, SimpleNamespace)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.msg", module)
    for name, content in {"rclpy": {}, "rclpy.node": {"Node": StandIn}}.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(out))
    monkeypatch.delitem(sys.modules, "controller", raising=False)
    found = runpy.run_path(str(out / "policy_node.py"))["PolicyNode"]()
    sys.modules.pop("controller", None)
    return found, load_policy(run)


def test_messages_become_observations_by_name(node: Any):
    """Catches a joint that is read by its place in the message, a unit of force that is left out, a wrong period, and
    an action on a sensor that has gone silent."""
    node, policy = node
    env = envs.make("custom", 1, 0, xml=CRANE["env.xml"], task=CRANE["env.task"], action_units="env")
    obs = env.step(np.array([[0.7, -0.4]], np.float32)).obs
    qpos, qvel = (dict(zip(("trolley", "swing", "hoist"), values.tolist(), strict=True)) for values in env.get_state(0))
    joints = SimpleNamespace(
        name=list(JOINTS), position=[qpos[name] for name in JOINTS], velocity=[qvel[name] for name in JOINTS]
    )
    period, step = node.timer
    assert period == pytest.approx(env.spec.dt)

    step()
    assert node.sent[-1] == [0.0, 0.5 * 400]  # before anything was heard
    assert node.told == ["holding: trolley (m) is nan"]
    node.on_joints(joints)
    node.on_target(SimpleNamespace(x=float(obs[0, 7]), y=0.0, z=float(obs[0, 8])))
    step()
    assert np.allclose(node.sent[-1], policy.act(obs)[0] * (150, 400), atol=1e-2)
    assert node.sent[-1] != [0.0, 200.0]
    node.now = 5 * period
    node.on_joints(joints)
    step()
    assert node.sent[-1] == [0.0, 200.0]
    assert node.told[-1] == "holding: target - load x (m) is nan"
