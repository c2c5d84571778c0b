"""Humanoid-v5: a humanoid of 13 bodies and 17 actuated joints walks forward without falling.

Action       (17,) torques of the joints, in [-0.4, 0.4] times a gear of 25 to 300 Nm
Observation  (348,) positions but x and y (22); velocities (23); of the 13 bodies: inertia and mass about the centre of
             mass (130), velocity about it (78); actuator forces in joint space (17, Nm); external forces (78, Nm and N)
Reward       1.25 * forward velocity of the centre of mass (m/s) + 5 while healthy
             - 0.1 * sum of squared actions - 5e-7 * sum of squared external forces (at most 10)
Termination  the torso's height leaves (1.0, 2.0) m; the clock ends an episode after 1000 actions of 0.015 s
Reset        positions and velocities + uniform in [-0.01, 0.01)
Source       Gymnasium 1.x, Humanoid-v5
"""

from envs.task import (
    Task,
    between,
    entry_names,
    gymnasium_asset,
    helper,
    sum_of_squares,
    write_bodies,
    write_row,
)

FORWARD_WEIGHT = 1.25
HEALTHY_REWARD = 5.0
CONTROL_COST = 0.1
CONTACT_COST, CONTACT_COST_LIMIT = 5e-7, 10.0
LOWEST, HIGHEST = 1.0, 2.0
NOISE = 0.01
POSITIONS, VELOCITIES = 24, 23
FREE_JOINT_VELOCITIES = 6


def reset(physics, state, noise):
    for index in range(POSITIONS):
        physics.qpos[index] += between(noise.uniform[index], -NOISE, NOISE)
    for index in range(VELOCITIES):
        physics.qvel[index] += between(noise.uniform[POSITIONS + index], -NOISE, NOISE)


def observe(physics, state, noise, observation):
    entry = write_row(physics.qpos, 2, observation, 0)
    entry = write_row(physics.qvel, 0, observation, entry)
    entry = write_bodies(physics.cinert, observation, entry)
    entry = write_bodies(physics.cvel, observation, entry)
    entry = write_row(physics.qfrc_actuator, FREE_JOINT_VELOCITIES, observation, entry)
    write_bodies(physics.cfrc_ext, observation, entry)


@helper
def centre_of_mass_x(physics):
    moment, mass = 0.0, 0.0
    for body in range(physics.body_mass.shape[0]):
        moment += physics.body_mass[body] * physics.xipos[body, 0]
        mass += physics.body_mass[body]
    return moment / mass


def command(physics, state, noise):
    state[0] = centre_of_mass_x(physics)


def reward(physics, state, terms):
    forward = FORWARD_WEIGHT * (centre_of_mass_x(physics) - state[0]) / physics.dt
    healthy = 0.0 if terminated(physics, state) else HEALTHY_REWARD
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    contact = 0.0
    for body in range(physics.cfrc_ext.shape[0]):
        contact += sum_of_squares(physics.cfrc_ext[body])
    contact = min(CONTACT_COST * contact, CONTACT_COST_LIMIT)
    terms[0] = forward
    terms[1] = -control
    terms[2] = -contact
    terms[3] = healthy
    return forward + healthy - (control + contact)


@helper
def terminated(physics, state):
    return not (LOWEST < physics.qpos[2] < HIGHEST)


TASK = Task(
    id="Humanoid-v5",
    xml=gymnasium_asset("humanoid.xml"),
    frame_skip=5,
    max_episode_steps=1000,
    observation_names=lambda model: (
        entry_names(model, "qpos", first=2)
        + entry_names(model, "qvel")
        + entry_names(model, "cinert", first=1)
        + entry_names(model, "cvel", first=1)
        + entry_names(model, "qfrc_actuator", first=FREE_JOINT_VELOCITIES)
        + entry_names(model, "cfrc_ext", first=1)
    ),
    reward_terms=("reward_forward", "reward_ctrl", "reward_contact", "reward_survive"),
    reset=reset,
    observe=observe,
    reward=reward,
    terminated=terminated,
    command=command,
    state=("centre of mass x before the step (m)",),
    uniform=POSITIONS + VELOCITIES,
    contact_forces=True,
)
