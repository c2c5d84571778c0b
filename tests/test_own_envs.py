"""Gymnasium envs of one's own: arguments, wrappers, spaces that are laid out as vectors, and what is refused."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from small_runs import only_run, small_words

import envs
from dsac import compare, evaluate, export
from dsac.cli import exit_codes
from dsac.compare.groups import comparability
from dsac.compare.results import read
from dsac.config import compose, load, to_tree
from dsac.errors import ConfigError
from dsac.runs.folder import folder_of
from dsac.sweep.find_runs import find, identity
from dsac.sweep.plan import plan
from dsac.train import main, title_of
from envs.contract import EnvironmentFault, UnsuitableEnvironment

MODULE = """
import gymnasium
import numpy as np
from gymnasium import spaces

BUILT = []

class Cart(gymnasium.Env):
    def __init__(self, mass=1.0, gears=3, inner=None):
        BUILT.append((mass, inner))
        self.gears = gears
        self.observation_space = spaces.Dict({
            "pose": spaces.Tuple([spaces.Box(-9, 9, (2,)), spaces.Box(-9, 9, (2, 2))]),
            "gear": spaces.Discrete(gears, start=1),
        })
        self.action_space = spaces.Box(-2.0, 2.0, (1,))

    def observation(self):
        table = np.arange(4.0).reshape(2, 2)
        return {"pose": (np.array([self.clock, 7.0]), table), "gear": 1 + self.clock % self.gears}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.observation(), {}

    def step(self, action):
        self.clock += 1
        return self.observation(), 4.0, False, False, {}

class Half(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward / 2

class LessOne(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward - 1

def nothing(env):
    return None

gymnasium.register("Cart-v0", Cart, max_episode_steps=20)
"""
NAMES = (
    "gear=1", "gear=2", "gear=3", "pose[0][0]", "pose[0][1]",
    "pose[1][0][0]", "pose[1][0][1]", "pose[1][1][0]", "pose[1][1][1]",
)  # fmt: skip
CART = ["env=gymnasium", "env.id=own_cart:Cart-v0", "env.flatten=true"]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the constructor was given, each time; the module is own_cart."""
    (tmp_path / "own_cart.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("own_cart").BUILT
    del sys.modules["own_cart"]
    del gymnasium.registry["Cart-v0"]


def cart(**settings: Any) -> Any:
    return envs.make("gymnasium", 1, 0, **{"env_id": "own_cart:Cart-v0", "flatten": True, **settings})


def test_observations_are_laid_out_in_a_fixed_order_with_names(built: list[Any]):
    """Catches an order that names and numbers do not share, and a Discrete whose values do not begin at 0."""
    world = cart()
    assert world.spec.obs_names == NAMES
    np.testing.assert_array_equal(world.observe()[0], [1, 0, 0, 0, 7, 0, 1, 2, 3])
    np.testing.assert_array_equal(world.step([[0.0]]).next_obs[0], [0, 1, 0, 1, 7, 0, 1, 2, 3])


@pytest.mark.parametrize("gear", [0, 4, 1.5, "2", np.array([1, 2])])
def test_a_discrete_of_another_value_is_named(built: list[Any], gear: Any):
    """Catches a one in the place of another entry, or of the next part of the observation."""
    world = cart()
    world.worlds[0].unwrapped.observation = lambda: {"pose": (np.zeros(2), np.zeros((2, 2))), "gear": gear}
    with pytest.raises(EnvironmentFault, match="gear"):
        world.step([[0.0]])


def test_arguments_reach_the_constructor_and_wrappers_are_put_around_in_order(built: list[Any]):
    """Catches an argument that is dropped, and wrappers the other way round."""
    world = cart(kwargs={"mass": 4, "inner": {"x": [1, 2]}}, wrappers=["own_cart:Half", "own_cart:LessOne"])
    assert built == [(4, {"x": [1, 2]})]
    assert world.step([[0.0]]).reward == 1.0
    assert not world.exact_state


WRONG = {
    "an argument": (["env.kwargs.mas=1"], ["env.kwargs.mas", "mass"]),
    "a number that is none": (["env.kwargs.mass=nan"], ["env.kwargs", "finite"]),
    "the clock": (["env.kwargs.max_episode_steps=5"], ["env.max_episode_steps="]),
    "a wrapper": (["env.wrappers=own_cart:Haf"], ["own_cart:Haf", "Half"]),
    "a wrapper without module": (["env.wrappers=Half"], ["'Half'", "module:Class"]),
    "the module of a wrapper": (["env.wrappers=[own_cart:Half,nowhere_at_all:Half]"], ["nowhere_at_all"]),
    "the engine": (["env=Hopper", "env.kwargs.mass=1"], ["env.kwargs.mass", "env.backend=gymnasium"]),
    "the engine, wrapped": (["env=Hopper", "env.wrappers=own_cart:Half"], ["env.wrappers", "env.backend=gymnasium"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_arguments_and_wrappers_is_said_before_an_env_is_built(built: list[Any], case: str):
    """Catches a typing error that ends in a traceback, in exit 3, or in the default."""
    words, said = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        load(compose([*(CART if words[0] != "env=Hopper" else []), *words]))
    (line,) = refused.value.problems
    assert not [text for text in said if text not in line], line
    assert not built


def test_what_a_wrapper_returns_is_an_env(built: list[Any]):
    """Catches a function that forgets to return: the next step would fail somewhere else."""
    with pytest.raises(EnvironmentFault, match="wrapper own_cart:nothing"):
        cart(wrappers=["own_cart:nothing"])


def test_arguments_are_part_of_the_config(built: list[Any]):
    """Catches arguments that are lost in config.yaml, that two runs may differ in, or that the last one overwrites."""
    words = [
        "env.kwargs.mass=2",
        "env.kwargs.inner.name=x",
        "env.kwargs.inner.list=[1,2.5]",
        "env.wrappers=own_cart:Half",
    ]
    config = load(compose([*CART, *words]))
    assert config.env.kwargs == {"mass": 2, "inner": {"name": "x", "list": [1, 2.5]}}
    assert config.env.wrappers == ("own_cart:Half",)
    assert load(yaml.safe_load(yaml.safe_dump(to_tree(config)))) == config
    others = [[*CART, *words, "env.kwargs.mass=3"], [*CART, *words, "env.wrappers=null"], CART]
    assert len({identity(load(compose(other))) for other in [*others, [*CART, *words]]}) == 4


def test_a_search_for_a_run_imports_no_wrapper_of_another(built: list[Any], tmp_path: Path):
    """Catches a sweep that loads, and so imports, what a folder beside its own names."""
    asked = load(compose(["env=gymnasium", "env.id=Pendulum-v1", "algo=sac", f"runs={tmp_path}"]))
    tree = to_tree(asked)
    theirs = tmp_path / "Pendulum-v1" / "sac" / "theirs"
    theirs.mkdir(parents=True)
    (tmp_path / "their_wrapper.py").write_text("class Theirs: ...")
    tree["env"]["wrappers"] = ["their_wrapper:Theirs"]
    (theirs / "config.yaml").write_text(yaml.safe_dump(tree))
    assert find(asked).run is None
    assert "their_wrapper" not in sys.modules


def test_a_run_gives_its_arguments_again(built: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a command that builds another env than the run was trained in, and one that takes other arguments."""
    words = [*small_words(tmp_path / "runs", "sac", *CART), "env.kwargs.mass=4", "env.wrappers=own_cart:Half"]
    words.remove("env=InvertedPendulum")
    again = [CART[1], "env.wrappers=own_cart:Half"]
    assert main([*words, "total_env_steps=64"]) == exit_codes.FINISHED
    run = only_run(tmp_path / "runs")
    assert run.parts[-3] == "Cart-v0"
    capsys.readouterr()
    assert main([f"resume={run}", "total_env_steps=96"]) == exit_codes.USAGE
    assert "env.wrappers=own_cart:Half" in capsys.readouterr().err
    assert main([f"resume={run}", *again, "env.kwargs.mass=5"]) == exit_codes.USAGE
    assert "env.kwargs.mass=5: the run has 4" in capsys.readouterr().err
    assert main([f"resume={run}", *again, "total_env_steps=96"]) == exit_codes.FINISHED
    assert main([*words, "total_env_steps=96", "resume=auto"]) == exit_codes.FINISHED
    assert evaluate.main([f"run={run}", *again, "episodes=1", "which=last"]) == exit_codes.FINISHED
    assert export.main([f"run={run}", *again, "which=last", "format=onnx", "episodes=0"]) == exit_codes.FINISHED
    assert only_run(tmp_path / "runs") == run
    assert {mass for mass, _ in built} == {4}
    for command in (evaluate, export):
        assert command.main([f"run={run}", *again, "env.kwargs.mass=5", "which=last"]) == exit_codes.USAGE
        assert "the run has 4" in capsys.readouterr().err
    (table,) = run.glob("learner-0/export-*/policy.json")
    assert json.loads(table.read_text())["obs_names"] == list(NAMES)
    assert compare.main([f"runs={run}", f"out={tmp_path / 'compared'}", "curves=false"]) == exit_codes.FINISHED
    (learner,), _ = read([run])
    assert "env.kwargs.mass=4" in comparability(learner, None)["task"]


ROBOT = """
from envs.task import Task, write_row

def reset(physics, state, noise):
    physics.qpos[0] = noise.uniform[0]

def observe(physics, state, noise, observation):
    write_row(physics.qvel, 0, observation, write_row(physics.qpos, 0, observation, 0))

def reward(physics, state, terms):
    return -abs(physics.qpos[0])

TASK = Task(
    id="{name}", xml=None, frame_skip=2, max_episode_steps=10, reward_terms=(), reset=reset, observe=observe,
    reward=reward, uniform=1, observation_names=lambda model: ["q", "v"],
)
"""
SLIDER = """
<mujoco>
  <worldbody><body><joint name="slide" type="slide"/><geom size="0.1"/></body></worldbody>
  <actuator><motor name="push" joint="slide" ctrlrange="-2 2" ctrllimited="true"/></actuator>
</mujoco>
"""


@pytest.fixture
def robots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and the tasks of two robots, own_tracker and own_lifter."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "robot.xml").write_text(SLIDER)
    for module, name in (("own_tracker", "Tracker-v0"), ("own_lifter", "../My lifter/v0")):
        (tmp_path / f"{module}.py").write_text(ROBOT.format(name=name))
        sys.modules.pop(module, None)
    return tmp_path


def robot_words(folder: Path, module: str, *more: str) -> list[str]:
    words = small_words(folder / "runs", "sac", "env=custom", f"env.xml={folder / 'robot.xml'}", f"env.task={module}")
    return [word for word in [*words, *more] if word != "env=InvertedPendulum"]


def test_robots_are_called_by_the_ids_of_their_tasks(robots: Path):
    """Catches two robots that share a folder or a title, and an id that leads out of the folder of runs."""
    configs = [load(compose(robot_words(robots, module))) for module in ("own_tracker", "own_lifter")]
    assert [folder_of(config).parts[-2:] for config in configs] == [("Tracker-v0", "sac"), ("-My-lifter-v0", "sac")]
    assert title_of(to_tree(configs[0])) == "Tracker-v0 sac"
    (planned,) = plan({}, [0], robot_words(robots, "own_tracker"))
    assert planned.title == "Tracker-v0 sac seed 0"
    broken = {"env": {"name": "custom", "task": "no_such_robot"}, "algo": {"name": "sac"}}
    assert title_of(broken) == "no_such_robot sac"


def test_a_run_of_a_robot_lies_in_its_folder_and_an_old_one_is_found(robots: Path, capsys: pytest.CaptureFixture[str]):
    """Catches resume=auto and a sweep that begin anew beside a run of an earlier release, in runs/custom."""
    words = robot_words(robots, "own_tracker", "total_env_steps=64")
    assert main(words) == exit_codes.FINISHED
    run = only_run(robots / "runs")
    assert run.parts[-3:-1] == ("Tracker-v0", "sac")
    assert "Tracker-v0 sac" in capsys.readouterr().err
    assert read([run])[0][0].env == "Tracker-v0"
    old = robots / "runs" / "custom" / "sac" / run.name
    old.parent.mkdir(parents=True)
    run.rename(old)
    assert main([*words, "resume=auto", "total_env_steps=96"]) == exit_codes.FINISHED
    assert f"resumed {old}" in capsys.readouterr().out
    assert find(load(compose([*words, "total_env_steps=96"]))).run == old
    assert only_run(robots / "runs") == old


class OldGenerator(gymnasium.Env[Any, Any]):
    """Draws from NumPy's old generator, as dm_control does."""

    observation_space = spaces.Box(-9.0, 9.0, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.np_random: Any = np.random.RandomState(seed)
        return self.np_random.normal(size=1), {}

    def step(self, action: Any) -> Any:
        return self.np_random.normal(size=1), 0.0, False, False, {}


gymnasium.register("OldGenerator-v0", OldGenerator, max_episode_steps=100)


def test_an_old_generator_is_saved():
    """Catches a run whose first checkpoint fails, and a resumed one that draws what it drew before."""
    saved, loaded = (envs.make("gymnasium", 2, seed, env_id="OldGenerator-v0") for seed in (0, 9))
    saved.step(np.zeros((2, 1), np.float32))
    loaded.load_state_dict(json.loads(json.dumps(saved.state_dict(), default=lambda array: array.tolist())))
    np.testing.assert_array_equal(loaded.observe(), next_of(saved))


def next_of(saved: Any) -> np.ndarray:
    """What the next episodes of these worlds begin with."""
    return np.array([world.reset()[0] for world in saved.worlds], np.float32)


REFUSED = {
    "Discrete": (spaces.Discrete(3), None, ["Discrete(3)", "continuous"]),
    "endless": (spaces.Box(-np.inf, np.inf, (1,)), None, ["unbounded", "finite limits"]),
    "image": (None, spaces.Box(0, 255, (8, 8, 3), np.uint8), ["(8, 8, 3)", "images"]),
    "grey image": (None, spaces.Dict({"eye": spaces.Box(0, 255, (8, 8), np.uint8)}), ["'eye'", "images"]),
    "text": (None, spaces.Tuple([spaces.Text(5)]), ["'[0]'", "Text"]),
    "many values": (None, spaces.Discrete(10**9), ["1,000"]),
}


class Spaces(gymnasium.Env[Any, Any]):
    """Has the spaces that it is given."""

    def __init__(self, action: Any, observation: Any) -> None:
        self.action_space = action or spaces.Box(-1.0, 1.0, (1,))
        self.observation_space = observation or spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.parametrize("case", REFUSED)
def test_spaces_that_do_not_suit_are_refused_with_what_to_do(case: str):
    """Catches a refusal that only says no, and one that comes as a failure in the first step."""
    action, observation, said = REFUSED[case]
    gymnasium.register("Spaces-v0", Spaces, kwargs={"action": action, "observation": observation})
    try:
        with pytest.raises(UnsuitableEnvironment) as refused:
            envs.make("gymnasium", 1, 0, env_id="Spaces-v0", flatten=True)
    finally:
        del gymnasium.registry["Spaces-v0"]
    assert not [text for text in [*said, "env.wrappers=[module:Class]"] if text not in str(refused.value)]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "sizes"), [("cartpole-balance", (5, 1)), ("cheetah-run", (17, 6))])
def test_dm_control_through_its_bridge(name: str, sizes: tuple[int, int]):
    """Catches a release of the bridge whose generator cannot be saved, or whose observations come another way."""
    pytest.importorskip("shimmy", reason="the extra dm_control is not installed")
    pytest.importorskip("dm_control", reason="the extra dm_control is not installed")
    worlds = envs.make("gymnasium", 2, 0, env_id=f"shimmy:dm_control/{name}-v0", flatten=True)
    assert (worlds.spec.obs_dim, worlds.spec.action_dim) == sizes
    assert worlds.spec.obs_names[0] == "position[0]"
    state = worlds.state_dict()
    for _ in range(10):
        step = worlds.step(np.ones((2, sizes[1]), np.float32))
        assert np.isfinite(step.next_obs).all()
        assert (step.reward >= 0).all()
        assert (step.reward <= 1).all()
    worlds.load_state_dict(state)
    first = worlds.observe()
    worlds.load_state_dict(state)
    np.testing.assert_array_equal(worlds.observe(), first)
