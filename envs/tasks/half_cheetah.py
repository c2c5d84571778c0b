"""HalfCheetah-v5: a planar cheetah of seven links runs forward as fast as it can.

Action       (6,) torques of back thigh, shin, foot and front thigh, shin, foot, in [-1, 1] times a gear of 30 to 120 Nm
Observation  (17,) positions but x: height (m), pitch (rad), six joint angles (rad); then all nine velocities
Reward       forward velocity (m/s), averaged over the action, - 0.1 * sum of squared actions
Termination  never; the clock ends an episode after 1000 actions of 0.05 s
Reset        positions + uniform in [-0.1, 0.1), velocities + normal of deviation 0.1
Source       Gymnasium 1.x, HalfCheetah-v5
"""

from envs.task import (
    Task,
    between,
    entry_names,
    gymnasium_asset,
    sum_of_squares,
    write_row,
)

CONTROL_COST = 0.1
NOISE = 0.1
JOINTS = 9


def reset(physics, state, noise):
    for joint in range(JOINTS):
        physics.qpos[joint] += between(noise.uniform[joint], -NOISE, NOISE)
        physics.qvel[joint] += NOISE * noise.normal[joint]


def observe(physics, state, noise, observation):
    velocities = write_row(physics.qpos, 1, observation, 0)
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
    id="HalfCheetah-v5",
    xml=gymnasium_asset("half_cheetah.xml"),
    frame_skip=5,
    max_episode_steps=1000,
    observation_names=lambda model: entry_names(model, "qpos", first=1) + entry_names(model, "qvel"),
    reward_terms=("reward_forward", "reward_ctrl"),
    reset=reset,
    observe=observe,
    reward=reward,
    command=command,
    state=("x before the step (m)",),
    uniform=JOINTS,
    normal=JOINTS,
)
