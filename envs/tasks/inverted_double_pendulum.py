"""InvertedDoublePendulum-v5: a cart keeps a pole upright on whose end a second pole stands.

Action       (1,) force on the cart, in [-1, 1] times a gear of 500 N
Observation  (9,) position of the cart (m); sines, then cosines of the two angles; three velocities clipped to
             [-10, 10]; the constraint force on the cart (N) clipped to [-10, 10]
Reward       10 while the tip is up - 0.01 * x^2 - (y - 2)^2 with the tip at x and height y (m)
             - 0.001 * (velocity of the first angle)^2 - 0.005 * (velocity of the second angle)^2
Termination  the tip is at most 1 m high; the clock ends an episode after 1000 actions of 0.05 s
Reset        positions + uniform in [-0.1, 0.1), velocities + normal of deviation 0.1
Source       Gymnasium 1.x, InvertedDoublePendulum-v5
"""

import math

from envs.task import Task, between, clip, entry_names, gymnasium_asset, helper, write_clipped

HEALTHY_REWARD = 10.0
LOWEST_TIP = 1.0
NOISE = 0.1
JOINTS = 3
TIP = 0


def reset(physics, state, noise):
    for joint in range(JOINTS):
        physics.qpos[joint] += between(noise.uniform[joint], -NOISE, NOISE)
        physics.qvel[joint] += NOISE * noise.normal[joint]


def observe(physics, state, noise, observation):
    observation[0] = physics.qpos[0]
    for angle in range(1, JOINTS):
        observation[angle] = math.sin(physics.qpos[angle])
        observation[2 + angle] = math.cos(physics.qpos[angle])
    write_clipped(physics.qvel, -10.0, 10.0, observation, 5)
    observation[8] = clip(physics.qfrc_constraint[0], -10.0, 10.0)


def reward(physics, state, terms):
    tip = physics.site_xpos[physics.sites[TIP]]
    healthy = 0.0 if terminated(physics, state) else HEALTHY_REWARD
    distance = 0.01 * tip[0] ** 2 + (tip[2] - 2.0) ** 2
    velocity = 1e-3 * physics.qvel[1] ** 2 + 5e-3 * physics.qvel[2] ** 2
    terms[0] = healthy
    terms[1] = -distance
    terms[2] = -velocity
    return healthy - distance - velocity


@helper
def terminated(physics, state):
    return physics.site_xpos[physics.sites[TIP], 2] <= LOWEST_TIP


TASK = Task(
    id="InvertedDoublePendulum-v5",
    xml=gymnasium_asset("inverted_double_pendulum.xml"),
    frame_skip=5,
    max_episode_steps=1000,
    observation_names=lambda model: (
        *("qpos[0]", "sin(qpos[1])", "sin(qpos[2])", "cos(qpos[1])", "cos(qpos[2])"),
        *entry_names(model, "qvel"),
        "qfrc_constraint[0]",
    ),
    reward_terms=("reward_survive", "distance_penalty", "velocity_penalty"),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    uniform=JOINTS,
    normal=JOINTS,
    sites=("tip",),
)
