"""Ant-v5: a quadruped of a torso and four two-jointed legs runs forward.

Action       (8,) torques of hip and ankle of each leg, in [-1, 1] times a gear of 150 Nm
Observation  (105,) positions but x and y: height (m), orientation (quaternion), eight joint angles (rad); 14
             velocities; external forces on the 13 bodies, 6 each, clipped to [-1, 1]
Reward       forward velocity of the torso (m/s) + 1 while healthy - 0.5 * sum of squared actions
             - 5e-4 * sum of squared clipped external forces
Termination  a state that is not finite, or the torso's height leaves [0.2, 1.0] m; the clock ends an episode after
             1000 actions of 0.05 s
Reset        positions + uniform in [-0.1, 0.1), velocities + normal of deviation 0.1
Source       Gymnasium 1.x, Ant-v5
"""

import math

from envs.task import (
    Task,
    between,
    clip,
    entry_names,
    gymnasium_asset,
    helper,
    sum_of_squares,
    write_clipped,
    write_row,
)

CONTROL_COST = 0.5
CONTACT_COST = 5e-4
HEALTHY_REWARD = 1.0
LOWEST, HIGHEST = 0.2, 1.0
NOISE = 0.1
POSITIONS, VELOCITIES = 15, 14
TORSO = 0


def reset(physics, state, noise):
    for index in range(POSITIONS):
        physics.qpos[index] += between(noise.uniform[index], -NOISE, NOISE)
    for index in range(VELOCITIES):
        physics.qvel[index] += NOISE * noise.normal[index]


def observe(physics, state, noise, observation):
    entry = write_row(physics.qpos, 2, observation, 0)
    entry = write_row(physics.qvel, 0, observation, entry)
    for body in range(1, physics.cfrc_ext.shape[0]):
        entry = write_clipped(physics.cfrc_ext[body], -1.0, 1.0, observation, entry)


def command(physics, state, noise):
    state[0] = physics.xpos[physics.bodies[TORSO], 0]


def reward(physics, state, terms):
    forward = (physics.xpos[physics.bodies[TORSO], 0] - state[0]) / physics.dt
    healthy = 0.0 if terminated(physics, state) else HEALTHY_REWARD
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    contact = 0.0
    for body in range(physics.cfrc_ext.shape[0]):
        for column in range(6):
            contact += clip(physics.cfrc_ext[body, column], -1.0, 1.0) ** 2
    contact *= CONTACT_COST
    terms[0] = forward
    terms[1] = -control
    terms[2] = -contact
    terms[3] = healthy
    return forward + healthy - (control + contact)


@helper
def terminated(physics, state):
    finite = math.isfinite(sum_of_squares(physics.qpos) + sum_of_squares(physics.qvel))
    return not (finite and LOWEST <= physics.qpos[2] <= HIGHEST)


TASK = Task(
    id="Ant-v5",
    xml=gymnasium_asset("ant.xml"),
    frame_skip=5,
    max_episode_steps=1000,
    observation_names=lambda model: (
        entry_names(model, "qpos", first=2) + entry_names(model, "qvel") + entry_names(model, "cfrc_ext", first=1)
    ),
    reward_terms=("reward_forward", "reward_ctrl", "reward_contact", "reward_survive"),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    command=command,
    state=("torso x before the step (m)",),
    uniform=POSITIONS,
    normal=VELOCITIES,
    bodies=("torso",),
    contact_forces=True,
)
