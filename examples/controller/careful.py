"""A controller that slows down, and at last stops, where the critics see a wide spread of what may come.

    python careful.py <export folder> <bound>

needs an export with risk=true: policy.onnx, risk.onnx and controller.py beside policy.json. `bound` is in the task's
units of the return; python -m dsac.evaluate falls=true prints one. Up to the bound an action is the policy's. From
there to twice the bound it moves towards the safe action, and beyond it is the safe action. Started as above, it
answers the observations of parity.npz and counts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


class CarefulPolicy:
    """obs (O,) or a mapping from name to value -> action (A,) float32 in the task's units, as controller.Policy.

    policy, risk  controller.Policy and controller.Risk of one export
    bound         sigma up to which the policy acts at full speed
    sigma, speed  of the last action: the spread of the return, and 1 for the policy's action to 0 for the safe one
    """

    def __init__(self, policy: Any, risk: Any, bound: float) -> None:
        if not bound > 0:
            raise ValueError(f"bound={bound}: a number above 0 is needed")
        self.policy, self.risk, self.bound = policy, risk, bound
        self.sigma, self.speed = 0.0, 1.0

    def __call__(self, obs: Any) -> Any:
        row, action = self.policy.row(obs), self.policy(obs)
        _, self.sigma = self.risk(row, action)
        self.speed = float(np.clip(2 - self.sigma / self.bound, 0, 1))  # 0 also where sigma is infinite
        return self.policy.safe_action + np.float32(self.speed) * (action - self.policy.safe_action)


def main(words: list[str]) -> int:
    """Answer recorded observations; returns the exit code."""
    if len(words) != 2:
        print("python careful.py <export folder> <bound>")
        return 2
    folder, bound = Path(words[0]), float(words[1])
    sys.path.insert(0, str(folder))
    from controller import Policy, Risk

    careful = CarefulPolicy(Policy(folder / "policy.onnx", pace=False), Risk(folder / "risk.onnx"), bound)
    with np.load(folder / "parity.npz", allow_pickle=False) as file:
        rows = file["obs"][file["kind"] == 0]  # those that the policy met in its task
    speeds = []
    for row in rows:
        careful(row)
        speeds.append(careful.speed)
    full, stopped = (np.mean(np.array(speeds) == speed) for speed in (1.0, 0.0))
    print(f"{len(rows)} observations, bound {bound:g}: {full:.0%} at full speed, {stopped:.0%} stopped, others slowed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
