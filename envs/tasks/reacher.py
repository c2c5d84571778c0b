"""Reacher-v5: a planar arm of two links moves its fingertip to a target.

Action       (2,) torques of shoulder and elbow, in [-1, 1] times a gear of 200 Nm
Observation  (10,) cosines, then sines of the two angles; x and y of the target (m); two velocities (rad/s); x and y of
             the vector from target to fingertip (m)
Reward       - distance of fingertip and target (m) - sum of squared actions
Termination  never; the clock ends an episode after 50 actions of 0.02 s
Reset        angles + uniform in [-0.1, 0.1), their velocities + uniform in [-0.005, 0.005); the target at rest, uniform
             on the disk of radius 0.2 m
Source       Gymnasium 1.x, Reacher-v5
"""

import math

from envs.task import Task, between, gymnasium_asset, sum_of_squares

ANGLE_NOISE, VELOCITY_NOISE = 0.1, 0.005
TARGET_RADIUS = 0.2
LINKS = 2
FINGERTIP, TARGET = 0, 1


def reset(physics, state, noise):
    for link in range(LINKS):
        physics.qpos[link] += between(noise.uniform[link], -ANGLE_NOISE, ANGLE_NOISE)
        physics.qvel[link] += between(noise.uniform[2 + link], -VELOCITY_NOISE, VELOCITY_NOISE)
    radius = TARGET_RADIUS * math.sqrt(noise.uniform[4])
    physics.qpos[2] = radius * math.cos(2.0 * math.pi * noise.uniform[5])
    physics.qpos[3] = radius * math.sin(2.0 * math.pi * noise.uniform[5])


def observe(physics, state, noise, observation):
    fingertip, target = physics.xpos[physics.bodies[FINGERTIP]], physics.xpos[physics.bodies[TARGET]]
    for index in range(2):
        observation[index] = math.cos(physics.qpos[index])
        observation[2 + index] = math.sin(physics.qpos[index])
        observation[4 + index] = physics.qpos[2 + index]
        observation[6 + index] = physics.qvel[index]
        observation[8 + index] = fingertip[index] - target[index]


def reward(physics, state, terms):
    fingertip, target = physics.xpos[physics.bodies[FINGERTIP]], physics.xpos[physics.bodies[TARGET]]
    squared = 0.0
    for axis in range(3):
        squared += (fingertip[axis] - target[axis]) ** 2
    terms[0] = -math.sqrt(squared)
    terms[1] = -sum_of_squares(physics.ctrl)
    return -math.sqrt(squared) - sum_of_squares(physics.ctrl)


TASK = Task(
    id="Reacher-v5",
    xml=gymnasium_asset("reacher.xml"),
    frame_skip=2,
    max_episode_steps=50,
    observation_names=lambda model: (
        ["cos(qpos[0])", "cos(qpos[1])", "sin(qpos[0])", "sin(qpos[1])", "qpos[2]", "qpos[3]", "qvel[0]", "qvel[1]"]
        + [f"xpos[fingertip][{axis}]-xpos[target][{axis}]" for axis in range(2)]
    ),
    reward_terms=("reward_dist", "reward_ctrl"),
    reset=reset,
    observe=observe,
    reward=reward,
    uniform=6,
    bodies=("fingertip", "target"),
)
