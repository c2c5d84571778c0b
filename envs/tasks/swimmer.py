"""Swimmer-v5: a planar chain of three links swims forward in a viscous fluid.

Action       (2,) torques of the two joints between the links, in [-1, 1] times a gear of 150 Nm
Observation  (8,) positions but x and y: heading and two joint angles (rad); five velocities
Reward       forward velocity (m/s), averaged over the action, - 1e-4 * sum of squared actions
Termination  never; the clock ends an episode after 1000 actions of 0.04 s
Reset        positions and velocities + uniform in [-0.1, 0.1)
Source       Gymnasium 1.x, Swimmer-v5
"""

from envs.task import (
    Task,
    between,
    entry_names,
    gymnasium_asset,
    sum_of_squares,
    write_row,
)

CONTROL_COST = 1e-4
NOISE = 0.1
JOINTS = 5


def reset(physics, state, noise):
    for joint in range(JOINTS):
        physics.qpos[joint] += between(noise.uniform[joint], -NOISE, NOISE)
        physics.qvel[joint] += between(noise.uniform[JOINTS + joint], -NOISE, NOISE)


def observe(physics, state, noise, observation):
    velocities = write_row(physics.qpos, 2, observation, 0)
    write_row(physics.qvel, 0, observation, velocities)


def command(physics, state, noise):
    state[0] = physics.qpos[0]


def reward(physics, state, terms):
    forward = (physics.qpos[0] - state[0]) / physics.dt
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    terms[0] = forward
    terms[1] = -control
    return forward - control


TASK = Task(
    id="Swimmer-v5",
    xml=gymnasium_asset("swimmer.xml"),
    frame_skip=4,
    max_episode_steps=1000,
    observation_names=lambda model: entry_names(model, "qpos", first=2) + entry_names(model, "qvel"),
    reward_terms=("reward_forward", "reward_ctrl"),
    reset=reset,
    observe=observe,
    reward=reward,
    command=command,
    state=("x before the step (m)",),
    uniform=2 * JOINTS,
)
