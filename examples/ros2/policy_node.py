"""A ROS 2 node for the crane: messages to observations by name, the policy, efforts out.

Put it beside an export (policy.onnx, policy.json, parity.npz, controller.py) and run: python policy_node.py

/joint_states    sensor_msgs/JointState with the joints trolley, swing and hoist
/load_to_target  geometry_msgs/Vector3, from the load to the target, m
/efforts         std_msgs/Float64MultiArray, N on trolley and hoist
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import rclpy
from controller import Policy
from geometry_msgs.msg import Vector3
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

HERE = Path(__file__).parent
STALE_PERIODS = 3  # a sensor that has been silent for longer is not believed


class PolicyNode(Node):
    """Acts at the control period on the newest of each observation; what is missing or stale makes the policy hold."""

    def __init__(self) -> None:
        super().__init__("policy")
        self.policy = Policy(HERE / "policy.onnx", pace=False, action_names=["trolley", "hoist"])  # the timer paces
        period = self.policy.contract["control_period_seconds"]
        self.newton = [meaning["per_unit"] for meaning in self.policy.contract["action_semantics"]]
        self.stale = STALE_PERIODS * period
        self.heard: dict[str, tuple[float, float]] = {}
        self.create_subscription(JointState, "joint_states", self.on_joints, 1)
        self.create_subscription(Vector3, "load_to_target", self.on_target, 1)
        self.efforts = self.create_publisher(Float64MultiArray, "efforts", 1)
        self.create_timer(period, self.step)

    def on_joints(self, message: Any) -> None:
        """Joints by name: the order of a JointState is whatever the driver likes."""
        place = {name: index for index, name in enumerate(message.name)}
        swing = message.position[place["swing"]]
        self.hear(
            {
                "trolley (m)": message.position[place["trolley"]],
                "sin(swing)": math.sin(swing),
                "cos(swing)": math.cos(swing),
                "hoist (m)": message.position[place["hoist"]],
                "trolley (m/s)": message.velocity[place["trolley"]],
                "swing (rad/s)": message.velocity[place["swing"]],
                "hoist (m/s)": message.velocity[place["hoist"]],
            }
        )

    def on_target(self, message: Any) -> None:
        self.hear({"target - load x (m)": message.x, "target - load z (m)": message.z})

    def hear(self, values: dict[str, float]) -> None:
        """Keep values with the time at which they came."""
        now = self.seconds()
        self.heard |= {name: (value, now) for name, value in values.items()}

    def seconds(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9

    def step(self) -> None:
        """One action. The policy holds its safe action, and says why, while an observation is missing."""
        now = self.seconds()
        fresh = {name: value for name, (value, came) in self.heard.items() if now - came <= self.stale}
        action = self.policy(fresh)
        if not self.policy.valid:
            self.get_logger().warning(f"holding: {self.policy.reason}", throttle_duration_sec=1.0)
        efforts = [float(value) * newton for value, newton in zip(action, self.newton, strict=True)]
        self.efforts.publish(Float64MultiArray(data=efforts))


def main() -> None:
    rclpy.init()
    rclpy.spin(PolicyNode())


if __name__ == "__main__":
    main()
