"""A robot of the tests that uses all that a task file can: a cart follows a commanded speed and is pushed.

Command      a speed, drawn anew every 0.3 s; one step in ten has a push: a jump of the cart's speed, a force on the rod
Action       (1,) the speed that a controller in actuate follows, filtered, with noise and two substeps late; it also
             reads an accelerometer
Observation  (6,) both positions and both speeds, with noise of a sensor; the command; the action before
Privileged   (2,) the cart's true speed, the force on the rod
Termination  the rod swings beyond 1 rad; the clock ends an episode after 40 actions of 0.02 s
Randomised   the cart weighs 1 to 3 kg
"""

from pathlib import Path

from envs.task import Action, Randomisation, Task, between

XML = str(Path(__file__).with_suffix(".xml"))
WORDS = ("env=custom", f"env.xml={XML}", f"env.task={__name__}", "env.randomise=true", "env.max_episode_steps=20")
COMMAND, LEFT, ACTION, BEFORE, LATE, LATER, STEPS = 0, 1, 2, 3, 4, 5, 6
CART, ROD = 0, 1


def reset(physics, state, noise):
    physics.qpos[0] = between(noise.uniform[0], -1.0, 1.0)
    physics.qpos[1] = 0.2 * noise.normal[0]
    state[STEPS] = between(noise.uniform[1], 0.0, 10.0)


def command(physics, state, noise):
    state[LEFT] -= physics.dt
    if state[LEFT] <= 0.0:
        state[LEFT] = 0.3
        state[COMMAND] = between(noise.uniform[0], -1.0, 1.0)
    pushed = noise.uniform[1] < 0.1
    physics.xfrc_applied[physics.bodies[ROD], 0] = 3.0 * noise.normal[0] if pushed else 0.0
    if pushed:
        physics.qvel[0] += 0.5 * noise.normal[1]
    state[BEFORE] = state[ACTION]
    state[STEPS] += 1.0


def actuate(physics, state, action, noise):
    state[ACTION] += 0.5 * (action[0] - state[ACTION])
    target = state[LATER]
    state[LATER] = state[LATE]
    state[LATE] = state[ACTION] + 0.05 * noise.normal[2]
    physics.ctrl[0] = 8.0 * (target - physics.qvel[0]) - 0.05 * physics.sensordata[physics.sensors[0]]


def observe(physics, state, noise, observation):
    for joint in range(2):
        observation[joint] = physics.qpos[joint] + 0.01 * noise.normal[3 + joint]
        observation[2 + joint] = physics.qvel[joint] + 0.1 * noise.normal[5 + joint]
    observation[4] = state[COMMAND]
    observation[5] = state[BEFORE]


def privileged(physics, state, observation):
    observation[0] = physics.qvel[0]
    observation[1] = physics.xfrc_applied[physics.bodies[ROD], 0]


def reward(physics, state, terms):
    terms[0] = -abs(physics.qvel[0] - state[COMMAND])
    terms[1] = -0.1 * abs(state[ACTION] - state[BEFORE])
    return float(terms[0] + terms[1] + 0.001 * state[STEPS])


def terminated(physics, _state):
    return abs(physics.qpos[1]) > 1.0


def other_cart(model, nominal, noise):
    model.body_mass[1] = nominal.body_mass[1] * between(noise.uniform[0], 0.5, 1.5)


TASK = Task(
    id="CommandedCart-v0",
    xml=XML,
    frame_skip=2,
    max_episode_steps=40,
    observation_names=lambda model: [
        *("cart (m)", "rod (rad)", "cart (m/s)", "rod (rad/s)", "command (m/s)", "action before (m/s)"),
    ],
    reward_terms=("reward_speed", "reward_smooth"),
    reset=reset,
    command=command,
    actuate=actuate,
    observe=observe,
    privileged=privileged,
    reward=reward,
    terminated=terminated,
    state=(
        *("command (m/s)", "left of the command (s)", "action (m/s)", "action before (m/s)"),
        *("action one substep ago (m/s)", "action two substeps ago (m/s)", "steps (1)"),
    ),
    privileged_names=("true speed of the cart (m/s)", "force on the rod (N)"),
    actions=(Action("speed (m/s)", -2.0, 2.0),),
    uniform=2,
    normal=1,
    step_uniform=2,
    step_normal=7,
    bodies=("cart", "rod"),
    sites=("tip",),
    sensors=("acceleration",),
    randomisation=Randomisation(other_cart, uniform=1),
)
