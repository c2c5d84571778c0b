"""The environment contract on the eleven MuJoCo tasks and on small Gymnasium environments that misbehave on purpose."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium import spaces

import envs
from envs.contract import MOST_EPISODE_STEPS, EnvironmentFault, NonFiniteAction, Step, UnsuitableEnvironment
from envs.gymnasium import GymnasiumVecEnv, to_task_units, world_seed

ROOT = Path(__file__).parents[1]
TASKS_THAT_TERMINATE = (
    "Ant",
    "Hopper",
    "Humanoid",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Walker2d",
)


class Playground(gymnasium.Env[Any, Any]):
    """Counts its steps into one array that it returns again and again; can be told to raise and to answer oddly."""

    error: type[BaseException] = RuntimeError

    def __init__(
        self,
        observation: spaces.Space[Any] | None = None,
        action: spaces.Space[Any] | None = None,
        raise_in: str = "",
        returns: Any = None,
        answers: dict[str, Any] | None = None,
    ) -> None:
        self.observation_space = observation or spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = action or spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.raise_in = raise_in
        self.returns = np.zeros(2, np.float32) if returns is None else returns
        self.answers = {"reward": 1.0, "terminated": False, "truncated": False} | (answers or {})
        self._raise_in("constructor")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._raise_in("reset")
        if isinstance(self.returns, np.ndarray):
            self.returns[:] = 0.0, self.np_random.uniform()
        return self.returns, {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._raise_in("step")
        self.last_action = action
        if isinstance(self.returns, np.ndarray):
            self.returns[0] += 1.0
        observation = self.answers.get("observation", self.returns)
        return observation, self.answers["reward"], self.answers["terminated"], self.answers["truncated"], {}

    def _raise_in(self, place: str) -> None:
        if self.raise_in == place:
            raise self.error(f"broken {place}")


ODD_LIMITS = spaces.Box(np.array([-0.1, 0.3, -7.7]), np.array([0.7, 0.9, 1e-3]), dtype=np.float64)
DICT = spaces.Dict(
    {
        "velocity": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "arm": spaces.Dict({"angle": spaces.Box(-1.0, 1.0, (1,), np.float64), "load": spaces.Box(0.0, 9.0)}),
    }
)
DICT_VALUE = {"velocity": np.float32([1.0, 2.0]), "arm": {"load": np.float32(4.0), "angle": np.array([3.0])}}
PLAYGROUNDS: dict[str, dict[str, Any]] = {
    "Plain": {},
    "OddLimits": {"action": ODD_LIMITS},
    "Discrete": {"action": spaces.Discrete(3)},
    "Matrix": {"action": spaces.Box(-1.0, 1.0, (2, 2))},
    "Integers": {"action": spaces.Box(0, 9, (2,), np.int64)},
    "Unbounded": {"action": spaces.Box(-np.inf, 1.0, (1,))},
    "Absurd": {"action": spaces.Box(-3.4e38, 3.4e38, (1,))},
    "Image": {"observation": spaces.Box(0, 255, (8, 8, 3), np.uint8)},
    "Category": {"observation": spaces.Discrete(5)},
    "Dict": {"observation": DICT, "returns": DICT_VALUE},
    "DictOfImages": {"observation": spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)})},
    "Short": {"observation": spaces.Box(-1.0, 1.0, (2,), np.float32), "returns": [0.5]},
    **{f"Raises{place}": {"raise_in": place} for place in ("constructor", "reset", "step")},
    "Endless": {},
}
for playground, arguments in PLAYGROUNDS.items():
    gymnasium.register(
        f"{playground}-v0", Playground, kwargs=arguments, max_episode_steps=None if playground == "Endless" else 100
    )


def playground(name: str, num_envs: int = 2, **options: Any) -> GymnasiumVecEnv:
    vec_env = envs.make("gymnasium", num_envs, 0, env_id=f"{name}-v0", **options)
    assert isinstance(vec_env, GymnasiumVecEnv)
    return vec_env


def task(name: str, num_envs: int = 2, seed: int = 0, **options: Any) -> GymnasiumVecEnv:
    vec_env = envs.make(name, num_envs, seed, "gymnasium", **options)
    assert isinstance(vec_env, GymnasiumVecEnv)
    return vec_env


def worlds(vec_env: GymnasiumVecEnv) -> list[Any]:
    return [world.unwrapped for world in vec_env.worlds]


def random_actions(vec_env: GymnasiumVecEnv, steps: int, seed: int = 0) -> np.ndarray:
    shape = (steps, vec_env.num_envs, vec_env.spec.action_dim)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


def assert_same(one: Step, other: Step) -> None:
    for name in Step._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("name", envs.TASKS)
def test_shapes_and_types_are_those_of_the_contract(name: str) -> None:
    """Catches float64 that leaks out, a lost world dimension, names that do not cover the arrays."""
    vec_env = task(name, num_envs=3)
    spec = vec_env.spec
    obs = vec_env.reset(seed=1)
    step = vec_env.step(random_actions(vec_env, 1)[0])
    assert spec.id == f"{name}-v5"
    assert len(set(spec.obs_names)) == spec.obs_dim
    assert len(set(spec.action_names)) == spec.action_dim
    assert spec.action_low.dtype == spec.action_high.dtype == np.float32
    assert spec.action_low.shape == spec.action_high.shape == (spec.action_dim,)
    assert spec.dt == pytest.approx(worlds(vec_env)[0].dt)
    assert (obs.shape, obs.dtype) == ((3, spec.obs_dim), np.float32)
    for array in (step.next_obs, step.obs):
        assert (array.shape, array.dtype) == ((3, spec.obs_dim), np.float32)
    assert (step.reward.shape, step.reward.dtype) == ((3,), np.float32)
    assert (step.reward_terms.shape, step.reward_terms.dtype) == ((3, len(spec.reward_terms)), np.float32)
    for array in (step.terminated, step.truncated):
        assert (array.shape, array.dtype) == ((3,), np.bool_)


@pytest.mark.parametrize("name", envs.TASKS)
def test_names_of_observations_point_at_their_numbers(name: str) -> None:
    """Catches names that are shifted against the numbers: each is evaluated on the simulator's data."""
    vec_env = task(name, num_envs=1)
    step = vec_env.step(random_actions(vec_env, 1)[0])
    data = worlds(vec_env)[0].data
    fields = ("qpos", "qvel", "cinert", "cvel", "cfrc_ext", "qfrc_actuator", "qfrc_constraint", "body")
    scope = {"sin": np.sin, "cos": np.cos, **{field: getattr(data, field) for field in fields}}
    for obs_name, value in zip(vec_env.spec.obs_names, step.next_obs[0], strict=True):
        expression = re.sub(r"xpos\[([a-z_]+)\]", r"body('\1').xpos", obs_name)
        number = np.float32(eval(expression, scope))
        assert value in (number, np.clip(number, -10.0, 10.0)), obs_name


def test_actuators_are_called_after_what_they_drive() -> None:
    """Catches empty action names: only some of the models name their actuators."""
    assert task("HalfCheetah", 1).spec.action_names == ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    assert task("Hopper", 1).spec.action_names == ("thigh_joint", "leg_joint", "foot_joint")
    assert playground("OddLimits").spec.action_names == ("action[0]", "action[1]", "action[2]")


@pytest.mark.parametrize("name", envs.TASKS)
def test_reward_terms_add_up_to_the_reward(name: str) -> None:
    """Catches a term that is missing, misspelt, of the wrong sign or of another world."""
    vec_env = task(name)
    constant = 1.0 if name == "HumanoidStandup" else 0.0
    for action in random_actions(vec_env, 10):
        step = vec_env.step(action)
        np.testing.assert_allclose(step.reward_terms.sum(axis=1) + constant, step.reward, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", envs.TASKS)
def test_the_clock_keeps_successor_and_next_episode_apart(name: str) -> None:
    """Catches the reset observation stored as the successor, and a time limit reported as a termination."""
    vec_env = task(name, seed=5, max_episode_steps=3)
    alone = gymnasium.make(f"{name}-v5", disable_env_checker=True)
    alone.reset(seed=world_seed(5, 1))
    for action in random_actions(vec_env, 3):
        step = vec_env.step(action)
        limits = vec_env.spec.action_low, vec_env.spec.action_high
        successor, reward, *_ = alone.step(to_task_units(action[1], *limits).astype(np.float32))
        np.testing.assert_array_equal(step.next_obs[1], successor.astype(np.float32))
        assert step.reward[1] == np.float32(reward)
    first, _ = alone.reset()
    np.testing.assert_array_equal(step.obs[1], first.astype(np.float32))
    assert (step.next_obs != step.obs).any(axis=1).all()
    assert step.truncated.all()
    assert not step.terminated.any()


@pytest.mark.parametrize("name", TASKS_THAT_TERMINATE)
def test_a_termination_keeps_successor_and_next_episode_apart(name: str) -> None:
    """Catches a fall reported as a time limit, and worlds reset although only a neighbour fell."""
    vec_env = task(name, seed=2)
    fallen = False
    for action in random_actions(vec_env, 400):
        step = vec_env.step(action)
        fallen = step.terminated.any() and not step.terminated.all()
        if fallen:
            break
    assert fallen, "no world fell alone within 400 steps"
    np.testing.assert_array_equal((step.next_obs != step.obs).any(axis=1), step.terminated)
    assert not step.truncated.any()


@pytest.mark.parametrize("name", envs.TASKS)
def test_unit_actions_reach_the_limits_and_no_further(name: str) -> None:
    """Catches a missing or doubled rescaling (Humanoid's limits are 0.4) and a missing clip."""
    vec_env = task(name, num_envs=4)
    action = np.ones((4, vec_env.spec.action_dim), np.float32) * np.float32([[-1], [1], [-3], [3]])
    vec_env.step(action)
    low, high = vec_env.spec.action_low, vec_env.spec.action_high
    for world, limit in zip(worlds(vec_env), (low, high, low, high), strict=True):
        np.testing.assert_array_equal(world.data.ctrl, limit)
    if name.startswith("Humanoid"):
        np.testing.assert_array_equal(high, np.full(17, 0.4, np.float32))


def test_env_actions_are_taken_as_they_are() -> None:
    """Catches a policy that already speaks the task's units being rescaled a second time, or not clipped."""
    vec_env = task("Humanoid", action_units="env")
    vec_env.step(np.float32([[0.25], [9.0]]) * np.ones(17, np.float32))
    controls = [world.data.ctrl for world in worlds(vec_env)]
    np.testing.assert_array_equal(controls, np.float32([[0.25], [0.4]]) * np.ones(17, np.float32))


def test_without_rescaling_most_of_the_action_range_saturates() -> None:
    """Catches the belief that the map does not matter: unscaled, 0.5 and 1.0 give one force but another cost."""

    def force_and_cost(control: float) -> tuple[np.ndarray, float]:
        alone = gymnasium.make("Humanoid-v5", disable_env_checker=True)
        alone.reset(seed=0)
        info = alone.step(np.full(17, control, np.float32))[-1]
        simulated: Any = alone.unwrapped
        return simulated.data.actuator_force.copy(), info["reward_ctrl"]

    half, half_cost = force_and_cost(0.5)
    full, full_cost = force_and_cost(1.0)
    limit, limit_cost = force_and_cost(0.4)
    np.testing.assert_array_equal(half, full)
    np.testing.assert_allclose(half, limit, rtol=1e-6)
    assert full_cost == pytest.approx(limit_cost * (1.0 / 0.4) ** 2, rel=1e-5)
    assert half_cost != pytest.approx(full_cost)
    vec_env = task("Humanoid")
    vec_env.step(np.float32([[0.5], [1.0]]) * np.ones(17, np.float32))
    forces = [world.data.actuator_force for world in worlds(vec_env)]
    np.testing.assert_allclose(forces[0], forces[1] / 2, rtol=1e-6)


def test_limits_that_are_not_symmetric_are_reached_exactly() -> None:
    """Catches a map whose rounding stops short of a limit or steps over it, and one that is wrong off the ends."""
    vec_env = playground("OddLimits", num_envs=3)
    vec_env.step(np.float32([[-1.0], [1.0], [0.0]]) * np.ones(3, np.float32))
    low, high, middle = (world.last_action for world in worlds(vec_env))
    assert low.dtype == ODD_LIMITS.dtype
    np.testing.assert_array_equal(low, ODD_LIMITS.low)
    np.testing.assert_array_equal(high, ODD_LIMITS.high)
    np.testing.assert_allclose(middle, (ODD_LIMITS.low + ODD_LIMITS.high) / 2, rtol=1e-12)


@pytest.mark.parametrize("name", envs.TASKS)
def test_worlds_differ_and_a_seed_repeats(name: str) -> None:
    """Catches worlds that share a stream, neighbouring seeds that share worlds, and a seed that is ignored."""
    vec_env = task(name, num_envs=3, seed=7)
    starts = np.concatenate([vec_env.observe(), vec_env.reset(8), vec_env.reset(9)])
    assert len(np.unique(starts, axis=0)) == 9
    np.testing.assert_array_equal(vec_env.reset(7), starts[:3])
    np.testing.assert_array_equal(task(name, num_envs=3, seed=8).observe(), starts[3:6])


def through_json(tree: Any) -> Any:
    return json.loads(json.dumps(tree, default=lambda array: array.tolist()))


@pytest.mark.parametrize("name", envs.TASKS)
def test_a_saved_world_goes_on_bit_for_bit(name: str) -> None:
    """Catches state that is not saved: the clock, the generator, the warm start, positions one substep old."""
    saved = task(name, seed=3, max_episode_steps=31)
    actions = random_actions(saved, 67)
    for action in actions[:17]:
        saved.step(action)
    state = saved.state_dict()
    assert saved.exact_state
    assert_plain(state)
    loaded = task(name, seed=4, max_episode_steps=31)
    for action in actions[:5]:
        loaded.step(action)
    loaded.load_state_dict(through_json(state))
    assert loaded.state_dict()["seed"] == 3
    np.testing.assert_array_equal(loaded.observe(), saved.observe())
    for one, other in zip(worlds(loaded), worlds(saved), strict=True):
        np.testing.assert_array_equal(one._get_obs(), other._get_obs())
    episode_ends = 0
    for action in actions[17:]:
        step = saved.step(action)
        assert_same(loaded.step(action), step)
        episode_ends += int((step.terminated | step.truncated).sum())
    assert episode_ends >= saved.num_envs


def assert_plain(tree: Any) -> None:
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    assert isinstance(tree, dict | list | np.ndarray | int | float | str), type(tree)
    for child in children:
        assert_plain(child)


def test_a_world_that_cannot_be_saved_starts_the_episode_it_would_have_had_next() -> None:
    """Catches new episodes from an old or unseeded stream, and a clock that runs on from the lost episode."""
    saved, loaded = playground("Plain"), playground("Plain")
    for _ in range(60):
        saved.step(np.zeros((2, 1)))
    assert not saved.exact_state
    loaded.reset(9)
    loaded.load_state_dict(through_json(saved.state_dict()))
    first = loaded.observe()
    for _ in range(40):
        last = saved.step(np.zeros((2, 1)))
        assert not loaded.step(np.zeros((2, 1))).truncated.any()
    assert last.truncated.all()
    np.testing.assert_array_equal(first, last.obs)


def test_an_id_may_name_the_module_that_registers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a user's own robot being refused because nothing has imported its module yet."""
    registration = "import gymnasium\ngymnasium.register('Own-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
    (tmp_path / "own_robot.py").write_text(registration)
    monkeypatch.syspath_prepend(tmp_path)
    vec_env = envs.make("gymnasium", 1, 0, env_id="own_robot:Own-v0")
    assert (vec_env.spec.id, vec_env.spec.obs_names) == ("own_robot:Own-v0", ("obs[0]", "obs[1]", "obs[2]"))
    assert vec_env.spec.dt == 0.05
    assert vec_env.step([[1.0]]).reward_terms.shape == (1, 0)


@pytest.mark.parametrize(("name", "num_envs"), [("Hopper", 3), ("Walker2d", 2)])
def test_a_state_of_other_worlds_is_refused(name: str, num_envs: int) -> None:
    """Catches a checkpoint of another task or size being loaded in part."""
    with pytest.raises(EnvironmentFault, match="the saved state is of 2 worlds of Hopper-v5"):
        task(name, num_envs).load_state_dict(task("Hopper").state_dict())


def test_a_state_of_another_simulator_is_refused() -> None:
    """Catches a state vector whose layout changed being read as if it had not."""
    state = task("Hopper").state_dict()
    state["derived"] = state["derived"][:, 1:]
    with pytest.raises(EnvironmentFault, match="MuJoCo version"):
        task("Hopper").load_state_dict(state)


def test_a_step_belongs_to_its_reader() -> None:
    """Catches arrays that the next step overwrites, here with an environment that returns one array for ever."""
    vec_env = playground("Plain", max_episode_steps=2)
    first = vec_env.step(np.zeros((2, 1)))
    kept = Step(*(field.copy() for field in first))
    second = vec_env.step(np.zeros((2, 1)))
    first_of_next = second.obs.copy()
    vec_env.step(np.zeros((2, 1)))
    assert_same(first, kept)
    vec_env.step(np.zeros((2, 1))).obs[:] = 9.0
    assert not (vec_env.observe() == 9.0).any()
    np.testing.assert_array_equal(first.next_obs[:, 0], [1.0, 1.0])
    np.testing.assert_array_equal(second.next_obs[:, 0], [2.0, 2.0])
    np.testing.assert_array_equal(second.obs, first_of_next)
    np.testing.assert_array_equal(second.obs[:, 0], [0.0, 0.0])


REFUSED = [
    ({"name": "Humaniod"}, r"'Humaniod'; nearest: Humanoid "),
    ({"name": "humanoid"}, r"'humanoid'; nearest: Humanoid "),
    ({"name": "Pendulum-v1"}, r"env=gymnasium env\.id="),
    ({"name": "Humanoid-v4"}, r"before v5 contact costs.*use Humanoid-v5"),
    ({"name": "Ant-v2"}, r"use Ant-v5"),
    ({"name": "Ant-v55"}, r"'Ant-v55'; nearest: Ant-v5"),
    ({"name": "gymnasium", "env_id": "Hopper-v4"}, r"use Hopper-v5"),
    ({"name": "gymnasium", "env_id": "Pendlum-v1"}, r"'Pendlum-v1'; nearest: Pendulum-v1"),
    ({"name": "gymnasium", "env_id": "Pendulum-v0"}, r"'Pendulum-v0'; nearest: Pendulum-v1"),
    ({"name": "gymnasium", "env_id": "Pendulum"}, r"'Pendulum'; nearest: Pendulum-v1"),
    ({"name": "gymnasium", "env_id": "no_such_module:Arm-v0"}, r"cannot be imported.*no_such_module"),
    ({"name": "gymnasium"}, r"needs an id"),
    ({"name": "Ant", "env_id": "Pendulum-v1"}, r"'Pendulum-v1' was given beside task 'Ant'"),
    ({"name": "gymnasium", "env_id": "CartPole-v1"}, r"action space is Discrete\(2\)"),
    ({"name": "Ant", "backend": "gymansium"}, r"'gymansium'; nearest: gymnasium"),
    ({"name": "Ant", "action_units": "raw"}, r"'raw'; nearest: "),
    ({"name": "Ant", "num_envs": 0}, r"num_envs is 0"),
    ({"name": "Ant", "max_episode_steps": 0}, r"max_episode_steps is 0"),
    ({"name": "gymnasium", "env_id": "Discrete-v0"}, r"action space is Discrete\(3\)"),
    ({"name": "gymnasium", "env_id": "Matrix-v0"}, r"one-dimensional Box of real numbers"),
    ({"name": "gymnasium", "env_id": "Integers-v0"}, r"one-dimensional Box of real numbers"),
    ({"name": "gymnasium", "env_id": "Unbounded-v0"}, r"unbounded, Box\(-inf.*give it finite limits"),
    ({"name": "gymnasium", "env_id": "Absurd-v0"}, r"action\[0\] are -3\.4e\+38 to 3\.4e\+38.*give it the range"),
    ({"name": "gymnasium", "env_id": "Image-v0"}, r"shape \(8, 8, 3\), as images have"),
    ({"name": "gymnasium", "env_id": "Category-v0"}, r"observation is Discrete\(5\)"),
    ({"name": "gymnasium", "env_id": "Dict-v0"}, r"Dict of arm, velocity; set env\.flatten=true"),
    ({"name": "gymnasium", "env_id": "DictOfImages-v0", "flatten": True}, r"'camera' has shape \(8, 8, 3\)"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED, ids=[" ".join(map(str, r.values())) for r, _ in REFUSED])
def test_a_request_that_cannot_be_served_is_refused_in_one_line(request_: dict[str, Any], reason: str) -> None:
    """Catches a traceback from deep inside, a silent older version, and a refusal that does not say what is right."""
    with pytest.raises(UnsuitableEnvironment, match=reason) as refusal:
        envs.make(**{"num_envs": 1, "seed": 0, **request_})
    assert "\n" not in str(refusal.value)


def where(world: int) -> str:
    return rf"in world {world} \(seed 0, first reset with seed {world_seed(0, world)}\): RuntimeError: broken"


@pytest.mark.parametrize("place", ["constructor", "reset"])
def test_a_world_that_cannot_start_is_named(place: str) -> None:
    """Catches an exception from an environment that does not say which world and seed brought it about."""
    with pytest.raises(EnvironmentFault, match=f"Raises{place}-v0: {place} failed {where(0)} {place}") as fault:
        playground(f"Raises{place}", num_envs=3)
    assert isinstance(fault.value.__cause__, RuntimeError)


def test_a_world_that_fails_is_named_with_its_action() -> None:
    """Catches an exception from a step that does not say which world, seed and action brought it about."""
    vec_env = playground("Plain", num_envs=3)
    worlds(vec_env)[1].raise_in = "step"
    with pytest.raises(EnvironmentFault, match=rf"step on action \[0\.25\] failed {where(1)} step") as fault:
        vec_env.step(np.full((3, 1), 0.25))
    assert isinstance(fault.value.__cause__, RuntimeError)


def test_a_world_that_fails_to_start_its_next_episode_is_named() -> None:
    """Catches the reset inside a step being reported as a failure of the action."""
    vec_env = playground("Plain", max_episode_steps=1)
    worlds(vec_env)[1].raise_in = "reset"
    with pytest.raises(EnvironmentFault, match="reset failed in world 1"):
        vec_env.step(np.zeros((2, 1)))


def test_an_observation_of_another_size_than_declared_is_named() -> None:
    """Catches one number being broadcast over the whole observation."""
    with pytest.raises(EnvironmentFault, match=r"1 numbers.*space has 2"):
        playground("Short")


ODD_BUT_RIGHT = [
    ("reward", np.array([2.5]), 2.5),
    ("reward", np.array(2.5), 2.5),
    ("reward", [2.5], 2.5),
    ("reward", np.float32(2.5), 2.5),
    ("reward", 2, 2.0),
    ("reward", True, 1.0),
    *[("terminated", value, True) for value in (True, np.True_, 1, 1.0, np.array([True]), np.array(1), np.int64(1))],
    *[("truncated", value, False) for value in (np.False_, 0, np.array([False]), np.array(0.0))],
    ("observation", [3.0, 4], [3.0, 4.0]),
    ("observation", np.array([[3, 4]]), [3.0, 4.0]),
    ("observation", (np.float64(3.0), True), [3.0, 1.0]),
]


@pytest.mark.parametrize(("field", "value", "meant"), ODD_BUT_RIGHT, ids=repr)
def test_numbers_are_taken_in_every_form_that_environments_return(field: str, value: Any, meant: Any) -> None:
    """Catches an array of size one or an integer being refused, where what it means is certain."""
    vec_env = playground("Plain")
    worlds(vec_env)[1].answers[field] = value
    step = vec_env.step(np.zeros((2, 1)))
    assert not step.invalid.any()
    found = step.next_obs if field == "observation" else getattr(step, field)
    np.testing.assert_array_equal(found[1], meant)


WRONG = [
    *[("reward", value) for value in (None, "1.0", np.zeros(2), [], 1j, [1.0, [2.0]], {"sum": 1.0})],
    *[("terminated", value) for value in (None, "no", 2, np.nan, np.array([True, False]), np.array([]), object)],
    *[("truncated", value) for value in (None, "", [None])],
    *[("observation", value) for value in (None, "12", ["1", "2"], [None, 1.0], [1.0, [2.0]], np.zeros(2, complex))],
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=repr)
def test_an_answer_that_is_no_number_is_refused_by_name(field: str, value: Any) -> None:
    """Catches terminated=None taken as False, "no" as True, None in an observation as NaN, and a nameless refusal."""
    vec_env = playground("Plain")
    worlds(vec_env)[1].answers[field] = value
    with pytest.raises(EnvironmentFault, match=rf"failed in world 1 .*{field} is .*\(\w+\); .* is right") as fault:
        vec_env.step(np.zeros((2, 1)))
    assert repr(value)[:20] in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_large_wrong_answer_is_named_in_one_line() -> None:
    """Catches a screen full of numbers, and a value that writes to the terminal what it likes."""
    vec_env = playground("Plain")
    for value in (np.zeros((50, 50)), "\x1b[2Jgone\n" * 100):
        worlds(vec_env)[0].answers["reward"] = value
        with pytest.raises(EnvironmentFault, match=r"reward is .*; one number is right") as fault:
            vec_env.step(np.zeros((2, 1)))
        assert len(str(fault.value)) < 500
        assert str(fault.value).isprintable()


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_a_number_that_is_not_finite_is_described(value: float) -> None:
    """Catches an invalid step of which nobody can say which world and number it was."""
    vec_env = playground("Plain", num_envs=3)
    worlds(vec_env)[1].answers["reward"] = value
    assert vec_env.step(np.zeros((3, 1))).invalid.tolist() == [False, True, False]
    assert vec_env.failure == f"Plain-v0: reward of world 1 is {value}"
    worlds(vec_env)[1].answers = worlds(vec_env)[0].answers | {"observation": np.array([0.0, value], np.float64)}
    worlds(vec_env)[2].answers["reward"] = np.nan
    step = vec_env.step(np.zeros((3, 1)))
    assert step.invalid.tolist() == [False, True, True]
    assert not step.reward[1:].any()
    assert vec_env.failure == f"Plain-v0: obs[1] of world 1 is {value if abs(value) != 1e300 else 'inf'}"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("inside", ["reset", "step"])
def test_an_episode_that_begins_with_what_is_not_finite_is_refused(value: float, inside: str) -> None:
    """Catches a policy being blamed for the NaN that reset handed it."""
    vec_env = playground("Plain", max_episode_steps=1)
    worlds(vec_env)[1].reset = lambda **_: (np.array([0.0, value]), {})
    with pytest.raises(EnvironmentFault, match=rf"reset failed in world 1 .*obs\[1\] is {value}; finite") as fault:
        vec_env.reset(7) if inside == "reset" else vec_env.step(np.zeros((2, 1)))
    assert not isinstance(fault.value, NonFiniteAction)


@pytest.mark.parametrize("answer", [np.zeros(2), (np.zeros(2),), None], ids=repr)
def test_a_reset_of_the_old_kind_is_refused(answer: Any) -> None:
    """Catches an observation without its info being taken apart number by number."""
    vec_env = playground("Plain")
    worlds(vec_env)[0].reset = lambda **_: answer
    with pytest.raises(EnvironmentFault, match=r"reset failed in world 0 .*\(observation, info\) is right"):
        vec_env.reset(0)


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("place", ["constructor", "reset", "step"])
def test_a_world_that_wants_to_end_the_process_is_a_fault(
    place: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches sys.exit(0) in an environment ending a run in silence as if it were finished."""
    monkeypatch.setattr(Playground, "error", error)
    with pytest.raises(EnvironmentFault, match=rf"{place}.* failed in world 0 \(seed 0, .*{error.__name__}: broken"):
        playground(f"Raises{place}").step(np.zeros((2, 1)))


@pytest.mark.parametrize("place", ["constructor", "reset", "step"])
def test_an_interrupt_is_not_a_fault(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches Ctrl-C being blamed on the environment that it came in."""
    monkeypatch.setattr(Playground, "error", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        playground(f"Raises{place}").step(np.zeros((2, 1)))


def test_a_world_that_cannot_be_closed_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Catches a finished run that fails in its last breath, and worlds left open behind one that fails."""
    vec_env, closed = playground("Plain"), []
    worlds(vec_env)[0].close = lambda: sys.exit(0)
    worlds(vec_env)[1].close = lambda: closed.append(1)
    vec_env.close()
    assert closed == [1]
    assert "close failed in world 0" in caplog.text


def test_the_clock_of_a_task_is_known() -> None:
    """Catches an evaluation that cuts an episode whose end was named, or waits for one that never comes."""
    clocks = [playground("Plain", max_episode_steps=limit).spec.max_episode_steps for limit in (None, 7)]
    assert clocks == [100, 7]
    endless = playground("Endless").spec
    assert (endless.max_episode_steps, endless.longest_episode) == (None, MOST_EPISODE_STEPS)
    for backend in envs.BACKENDS:
        assert envs.make("Reacher", 1, 0, backend).spec.longest_episode == 50


def test_a_dict_of_boxes_is_laid_out_under_its_names() -> None:
    """Catches names in another order than the numbers, nested and scalar parts included."""
    vec_env = playground("Dict", flatten=True)
    assert vec_env.spec.obs_names == ("arm.angle[0]", "arm.load[0]", "velocity[0]", "velocity[1]")
    np.testing.assert_array_equal(vec_env.observe()[0], [3.0, 4.0, 1.0, 2.0])
    np.testing.assert_array_equal(vec_env.step(np.zeros((2, 1))).next_obs[1], [3.0, 4.0, 1.0, 2.0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("action_units", envs.ACTION_UNITS)
def test_an_action_that_is_not_finite_never_reaches_the_simulator(value: float, action_units: str) -> None:
    """Catches MuJoCo quietly zeroing all controls on a NaN, and an infinity clipped into a full command."""
    vec_env = task("HalfCheetah", action_units=action_units)
    before = vec_env.state_dict()
    action = np.zeros((2, 6), np.float32)
    action[1, 4] = value
    with pytest.raises(EnvironmentFault, match=f"action fshin of world 1 is {value}"):
        vec_env.step(action)
    np.testing.assert_array_equal(vec_env.state_dict()["integration"], before["integration"])


def test_actions_of_another_shape_are_refused() -> None:
    """Catches one world's action being handed out number by number to all worlds."""
    with pytest.raises(ValueError, match=r"actions of shape \(1,\), expected \(2, 1\)"):
        task("InvertedPendulum").step(np.zeros(1))


WARNING_PROBE = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
import envs
assert "gymnasium" not in sys.modules and "mujoco" not in sys.modules, "import envs is not light"
vec_env = envs.make("HalfCheetah", 2, 0, "gymnasium")
for world in vec_env.worlds:
    world.unwrapped.data.qvel[0] = 1e20
vec_env.step([[0.0] * 6] * 2)
"""


def test_warnings_of_the_simulator_are_logged_and_leave_no_file(tmp_path: Path) -> None:
    """Catches a stray MUJOCO_LOG.TXT in the user's folder, a warning per world, and a heavy import of envs."""
    command = [sys.executable, "-c", WARNING_PROBE]
    answer = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert answer.stdout.count("INFO MuJoCo: compiler attribute") <= 1
    assert answer.stdout.count("WARNING MuJoCo: Nan, Inf or huge value in Q") == 1, answer.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_task_has_a_file_that_names_it() -> None:
    """Catches a task without a yaml, a yaml without a task, one that names another
    task, and a default that is written twice."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "env").glob("*.yaml")}
    assert set(files) == {*envs.TASKS, envs.ANY_GYMNASIUM_ID, envs.CUSTOM}
    for stem, tree in files.items():
        block = tree.get("env", tree)
        assert block.pop("name") == stem
        assert block == ({"backend": "gymnasium"} if stem == envs.ANY_GYMNASIUM_ID else {})


@pytest.mark.parametrize("name", envs.TASKS)
def test_a_name_resolves_without_building(name: str) -> None:
    """Catches a short and a full name that mean different tasks."""
    assert envs.resolve(name) == envs.resolve(f"{name}-v5") == f"{name}-v5"
    assert envs.resolve("gymnasium", f"{name}-v5") == f"{name}-v5"
