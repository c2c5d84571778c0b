"""InvertedPendulum-v5: a cart keeps a pole upright.

Action       (1,) force on the cart, in [-3, 3] times a gear of 100 N
Observation  (4,) position of the cart (m), angle of the pole (rad); their velocities
Reward       1 while the pole stands
Termination  the pole leans more than 0.2 rad; the clock ends an episode after 1000 actions of 0.04 s
Reset        positions and velocities + uniform in [-0.01, 0.01)
Source       Gymnasium 1.x, InvertedPendulum-v5
"""

from envs.task import (
    Task,
    between,
    entry_names,
    gymnasium_asset,
    helper,
    write_row,
)

STEEPEST = 0.2
NOISE = 0.01
JOINTS = 2


def reset(physics, state, noise):
    for joint in range(JOINTS):
        physics.qpos[joint] += between(noise.uniform[joint], -NOISE, NOISE)
        physics.qvel[joint] += between(noise.uniform[JOINTS + joint], -NOISE, NOISE)


def observe(physics, state, noise, observation):
    velocities = write_row(physics.qpos, 0, observation, 0)
    write_row(physics.qvel, 0, observation, velocities)


def reward(physics, state, terms):
    terms[0] = 0.0 if terminated(physics, state) else 1.0
    return float(terms[0])


@helper
def terminated(physics, state):
    return not abs(physics.qpos[1]) <= STEEPEST


TASK = Task(
    id="InvertedPendulum-v5",
    xml=gymnasium_asset("inverted_pendulum.xml"),
    frame_skip=2,
    max_episode_steps=1000,
    observation_names=lambda model: entry_names(model, "qpos") + entry_names(model, "qvel"),
    reward_terms=("reward_survive",),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    uniform=2 * JOINTS,
)
