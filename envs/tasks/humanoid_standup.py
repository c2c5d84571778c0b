"""HumanoidStandup-v5: a humanoid that lies on its back stands up.

Action       (17,) torques of the joints, in [-0.4, 0.4] times a gear of 25 to 300 Nm
Observation  (348,) as in Humanoid-v5: positions but x and y (22); velocities (23); of the 13 bodies: inertia and mass
             about the centre of mass (130), velocity about it (78); actuator forces in joint space (17, Nm);
             external forces (78, Nm and N)
Reward       height of the torso (m) / 0.003 s - 0.1 * sum of squared actions
             - 5e-7 * sum of squared external forces (at most 10) + 1
Termination  never; the clock ends an episode after 1000 actions of 0.015 s
Reset        positions and velocities + uniform in [-0.01, 0.01)
Source       Gymnasium 1.x, HumanoidStandup-v5
"""

from envs.task import Task, gymnasium_asset, sum_of_squares
from envs.tasks import humanoid

CONTROL_COST = 0.1
IMPACT_COST, IMPACT_COST_LIMIT = 5e-7, 10.0


def reward(physics, state, terms):
    height = physics.qpos[2] / physics.timestep
    control = CONTROL_COST * sum_of_squares(physics.ctrl)
    impact = 0.0
    for body in range(physics.cfrc_ext.shape[0]):
        impact += sum_of_squares(physics.cfrc_ext[body])
    impact = min(IMPACT_COST * impact, IMPACT_COST_LIMIT)
    terms[0] = height
    terms[1] = -control
    terms[2] = -impact
    return height - control - impact + 1.0


TASK = Task(
    id="HumanoidStandup-v5",
    xml=gymnasium_asset("humanoidstandup.xml"),
    frame_skip=5,
    max_episode_steps=1000,
    observation_names=humanoid.TASK.observation_names,
    reward_terms=("reward_linup", "reward_quadctrl", "reward_impact"),
    reset=humanoid.reset,
    observe=humanoid.observe,
    reward=reward,
    uniform=humanoid.TASK.uniform,
    contact_forces=True,
)
