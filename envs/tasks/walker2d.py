"""Walker2d-v5: a planar biped walks forward without falling.

Action       (6,) torques of right thigh, leg, foot and left thigh, leg, foot, in [-1, 1] times a gear of 100 Nm
Observation  (17,) positions but x: height (m), pitch, six joint angles (rad); nine velocities clipped to [-10, 10]
Reward       forward velocity (m/s) + 1 while healthy - 0.001 * sum of squared actions
Termination  the height leaves (0.8, 2.0) m or the pitch leaves (-1, 1) rad; the clock ends an episode after 1000
             actions of 0.008 s
Reset        positions and velocities + uniform in [-0.005, 0.005)
Source       Gymnasium 1.x, Walker2d-v5
"""

from envs.task import (
    Task,
    between,
    entry_names,
    gymnasium_asset,
    helper,
    sum_of_squares,
    write_clipped,
    write_row,
)

CONTROL_COST = 1e-3
HEALTHY_REWARD = 1.0
LOWEST, HIGHEST = 0.8, 2.0
STEEPEST = 1.0
NOISE = 5e-3
JOINTS = 9


def reset(physics, state, noise):
    for joint in range(JOINTS):
        physics.qpos[joint] += between(noise.uniform[joint], -NOISE, NOISE)
        physics.qvel[joint] += between(noise.uniform[JOINTS + joint], -NOISE, NOISE)


def observe(physics, state, noise, observation):
    velocities = write_row(physics.qpos, 1, observation, 0)
    write_clipped(physics.qvel, -10.0, 10.0, observation, velocities)


def command(physics, state, noise):
    state[0] = physics.qpos[0]


def reward(physics, state, terms):
    forward = (physics.qpos[0] - state[0]) / physics.dt
    healthy = 0.0 if terminated(physics, state) else HEALTHY_REWARD
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    terms[0] = forward
    terms[1] = -control
    terms[2] = healthy
    return forward + healthy - control


@helper
def terminated(physics, state):
    return not (LOWEST < physics.qpos[1] < HIGHEST and abs(physics.qpos[2]) < STEEPEST)


TASK = Task(
    id="Walker2d-v5",
    xml=gymnasium_asset("walker2d_v5.xml"),
    frame_skip=4,
    max_episode_steps=1000,
    observation_names=lambda model: entry_names(model, "qpos", first=1) + entry_names(model, "qvel"),
    reward_terms=("reward_forward", "reward_ctrl", "reward_survive"),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    command=command,
    state=("x before the step (m)",),
    uniform=2 * JOINTS,
)
