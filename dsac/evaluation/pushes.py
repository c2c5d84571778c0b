"""Pushes: what an evaluation does to the robots of a MuJoCo task to see how they fall."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from dsac.seeding import seed_sequence
from envs.contract import UnsuitableEnvironment, VecEnv

HORIZONTAL = 1e-3  # a direction with less than this of its length in the plane is vertical


class Pushes:
    """A horizontal force on the trunk of a robot during one action, at random times, in each env by itself.

    speed  m/s by which a push would change the speed of the whole robot if nothing held it
    every  actions between two pushes, on average
    seed   decides times and directions, together with the order of the calls

    The trunk is the first body of the model that can move. A robot in a plane is pushed within it.
    Raises UnsuitableEnvironment where the task has no MuJoCo simulator, or does not say how long an action lasts.
    """

    def __init__(self, env: VecEnv, speed: float, every: float, seed: int) -> None:
        if not env.spec.dt:
            raise UnsuitableEnvironment(f"{env.spec.id} does not say how long an action lasts: nothing can be pushed")
        self.env, self.speed, self.every = env, speed, every
        self.generator = np.random.default_rng(seed_sequence(seed, "evaluation", 1))
        self.count = 0
        model = env.simulator(0)[0]
        self.trunk = int(np.flatnonzero(model.body_dofnum > 0)[0])
        self.axes = horizontal_axes(model, self.trunk)

    def before_step(self) -> None:
        """Push some of the envs during the step that comes, and let the others be."""
        due = self.generator.random(self.env.num_envs) < 1 / self.every
        draws = self.generator.standard_normal((self.env.num_envs, len(self.axes)))
        directions = draws / np.linalg.norm(draws, axis=1, keepdims=True) @ self.axes
        for index in range(self.env.num_envs):
            model, data = self.env.simulator(index)
            force = model.body_subtreemass[self.trunk] * self.speed / self.env.spec.dt
            data.xfrc_applied[self.trunk, :2] = due[index] * force * directions[index]
        self.count += int(np.count_nonzero(due))

    def end(self) -> None:
        """Take the last forces away."""
        for index in range(self.env.num_envs):
            self.env.simulator(index)[1].xfrc_applied[self.trunk] = 0


def horizontal_axes(model: mujoco.MjModel, body: int) -> NDArray[np.float64]:
    """Orthonormal horizontal directions (k, 2) in which a body can slide; both where it cannot: then forces turn it."""
    found = []
    for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
        if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            return np.eye(2)
        if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
            axis = np.empty(3)
            mujoco.mju_rotVecQuat(axis, model.jnt_axis[joint], model.body_quat[body])
            found.append(axis[:2])
    if not found or np.linalg.norm(found) < HORIZONTAL:
        return np.eye(2)
    _, lengths, directions = np.linalg.svd(np.array(found))
    kept: NDArray[np.float64] = directions[: np.count_nonzero(lengths > HORIZONTAL)]
    return kept
