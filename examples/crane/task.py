"""Crane-v0: a gantry crane brings a swinging load to rest at a target.

    python -m dsac.train env=custom env.xml=examples/crane/crane.xml env.task=examples.crane.task

Action       (2,) forces on the trolley, [-1, 1] times 150 N, and on the hoist, [-1, 1] times 400 N (down is positive)
Observation  (9,) trolley (m); sine and cosine of the swing; hoist (m); the three velocities (m/s, rad/s, m/s); from the
             load to the target in x and z (m)
Reward       1 at the target, falling with the distance d (m) as exp(-2 d); - 0.1 * speed of the load (m/s)
             - 0.02 * sum of squared actions
Termination  the cable swings beyond 0.8 rad; the clock ends an episode after 400 actions of 0.02 s
Reset        trolley within 1.5 m of the middle, swing within 0.1 rad, at rest; target in 3 m by 1.2 m below the rail
Randomised   the load weighs 10 to 30 kg (env.randomise=true)
"""

import math

from envs.task import Randomisation, Task, between, helper, sum_of_squares

STEEPEST = 0.8
TROLLEY, SWING, HOIST = 0, 1, 2
LOAD = 4  # its body, after the world, the target, the trolley and the cable


def reset(physics, state, noise):
    physics.qpos[TROLLEY] = between(noise.uniform[0], -1.5, 1.5)
    physics.qpos[SWING] = between(noise.uniform[1], -0.1, 0.1)
    physics.mocap_pos[0, 0] = between(noise.uniform[2], -1.5, 1.5)
    physics.mocap_pos[0, 2] = between(noise.uniform[3], 0.9, 2.1)


@helper
def to_target(physics, axis):
    return physics.mocap_pos[0, axis] - physics.site_xpos[physics.sites[0], axis]


def observe(physics, state, noise, observation):
    observation[0] = physics.qpos[TROLLEY]
    observation[1] = math.sin(physics.qpos[SWING])
    observation[2] = math.cos(physics.qpos[SWING])
    observation[3] = physics.qpos[HOIST]
    for joint in range(3):
        observation[4 + joint] = physics.qvel[joint]
    observation[7] = to_target(physics, 0)
    observation[8] = to_target(physics, 2)


def reward(physics, state, terms):
    distance = math.sqrt(to_target(physics, 0) ** 2 + to_target(physics, 2) ** 2)
    speed = 0.0
    for axis in range(3):
        speed += physics.sensordata[physics.sensors[0] + axis] ** 2
    terms[0] = math.exp(-2.0 * distance)
    terms[1] = -0.1 * math.sqrt(speed)
    terms[2] = -0.02 * sum_of_squares(physics.ctrl)
    return float(terms[0] + terms[1] + terms[2])


def terminated(physics, state):
    return abs(physics.qpos[SWING]) > STEEPEST


def other_load(model, nominal, noise):
    share = between(noise.uniform[0], 0.5, 1.5)
    model.body_mass[LOAD] = nominal.body_mass[LOAD] * share
    for axis in range(3):
        model.body_inertia[LOAD, axis] = nominal.body_inertia[LOAD, axis] * share


TASK = Task(
    id="Crane-v0",
    xml=None,
    frame_skip=4,
    max_episode_steps=400,
    observation_names=lambda model: [
        *("trolley (m)", "sin(swing)", "cos(swing)", "hoist (m)"),
        *("trolley (m/s)", "swing (rad/s)", "hoist (m/s)", "target - load x (m)", "target - load z (m)"),
    ],
    reward_terms=("reward_target", "reward_speed", "reward_effort"),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    uniform=4,
    actuators=("trolley", "hoist"),
    sites=("load",),
    sensors=("load velocity",),
    randomisation=Randomisation(other_load, uniform=1),
)
