"""Pusher-v5: an arm of seven joints pushes a cylinder to a goal on a table.

Action       (7,) torques of the joints, in [-2, 2] Nm
Observation  (23,) seven joint angles (rad) and their velocities (rad/s); positions of the arm's tip, the cylinder and
             the goal (m)
Reward       - 0.5 * distance of tip and cylinder - distance of cylinder and goal (m) - 0.1 * sum of squared actions
Termination  never; the clock ends an episode after 100 actions of 0.05 s
Reset        the arm in its initial pose with velocities uniform in [-0.005, 0.005); the cylinder at rest, uniform in
             [-0.3, 0) x [-0.2, 0.2) m of its initial position where that is more than 0.17 m from the goal
Source       Gymnasium 1.x, Pusher-v5
"""

import math

from envs.task import Task, between, entry_names, gymnasium_asset, helper, sum_of_squares

NEAR_WEIGHT = 0.5
CONTROL_COST = 0.1
VELOCITY_NOISE = 0.005
NEAREST_START = 0.17
ARM = 7
OBJECT_Y, OBJECT_X, GOAL_Y, GOAL_X = 7, 8, 9, 10
# A draw is accepted with probability 0.62: all 32 fail once in 10^13 resets.
ATTEMPTS = 32
BODIES = ("tips_arm", "object", "goal")
TIP, OBJECT, GOAL = 0, 1, 2


def reset(physics, state, noise):
    for joint in range(ARM):
        physics.qvel[joint] += between(noise.uniform[joint], -VELOCITY_NOISE, VELOCITY_NOISE)
    found = False
    for attempt in range(ATTEMPTS):
        first = between(noise.uniform[ARM + 2 * attempt], -0.3, 0.0)
        second = between(noise.uniform[ARM + 2 * attempt + 1], -0.2, 0.2)
        if not found and math.sqrt(first**2 + second**2) > NEAREST_START:
            physics.qpos[OBJECT_Y] = first
            physics.qpos[OBJECT_X] = second
            found = True
    physics.qpos[GOAL_Y] = 0.0
    physics.qpos[GOAL_X] = 0.0


def observe(physics, state, noise, observation):
    for joint in range(ARM):
        observation[joint] = physics.qpos[joint]
        observation[ARM + joint] = physics.qvel[joint]
    for index in range(3):
        for axis in range(3):
            observation[2 * ARM + 3 * index + axis] = physics.xpos[physics.bodies[index], axis]


@helper
def distance(physics, one, other):
    squared = 0.0
    for axis in range(3):
        squared += (physics.xpos[physics.bodies[one], axis] - physics.xpos[physics.bodies[other], axis]) ** 2
    return math.sqrt(squared)


def reward(physics, state, terms):
    near = NEAR_WEIGHT * distance(physics, OBJECT, TIP)
    away = distance(physics, OBJECT, GOAL)
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    terms[0] = -away
    terms[1] = -control
    terms[2] = -near
    return -away - control - near


TASK = Task(
    id="Pusher-v5",
    xml=gymnasium_asset("pusher_v5.xml"),
    frame_skip=5,
    max_episode_steps=100,
    observation_names=lambda model: (
        entry_names(model, "qpos")[:ARM]
        + entry_names(model, "qvel")[:ARM]
        + [f"xpos[{body}][{axis}]" for body in BODIES for axis in range(3)]
    ),
    reward_terms=("reward_dist", "reward_ctrl", "reward_near"),
    reset=reset,
    observe=observe,
    reward=reward,
    uniform=ARM + 2 * ATTEMPTS,
    bodies=BODIES,
)
