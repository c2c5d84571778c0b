"""experiment=: a yaml of settings between the defaults and the words of the command line."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from dsac import config as config_module
from dsac.algorithms import load as algorithm_class
from dsac.config import compose, load, to_tree
from dsac.errors import ConfigError
from envs import TASKS

RECIPE = """\
algo:
  name: sac
  actor_learning_rate: 3e-4      # text in yaml's rules, a number in ours
env:
  name: InvertedPendulum
num_envs: 4
total_env_steps: 5_000
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def problems(*words: str) -> list[str]:
    """What the loader says against words."""
    found: list[str] = []
    with pytest.raises(ConfigError) as error:
        load(compose(words, found), found)
    return list(error.value.problems)


def test_a_recipe_chooses_and_sets(recipe: Path):
    """Catches a recipe whose algorithm, numbers or worlds do not reach the run."""
    config = load(compose([f"experiment={recipe}"]))
    assert (config.algo.name, config.env.name, config.total_env_steps) == ("sac", "InvertedPendulum", 5000)
    assert (config.algo.actor_learning_rate, config.algo.num_envs) == (3e-4, 4)
    assert config == load(to_tree(config))


def test_words_win_over_the_recipe(recipe: Path):
    """Catches a recipe that overrides what was typed, in either spelling of a shortcut."""
    words = [
        "algo=td3",
        "algo.num_envs=2",
        "total_env_steps=7",
        f"experiment={recipe}",
        "algo.actor_learning_rate=1e-3",
    ]
    config = load(compose(words))
    assert (config.algo.name, config.algo.num_envs, config.total_env_steps) == ("td3", 2, 7)
    assert config.algo.actor_learning_rate == 1e-3
    assert load(compose([f"experiment={recipe}", "num_envs=3"])).algo.num_envs == 3


def test_a_runs_config_is_a_recipe(tmp_path: Path):
    """Catches a format of its own that nobody can copy from a run."""
    config = load(compose(["env=Hopper", "algo=ppo", "algo.gamma=0.98", "seed=3"]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_tree(config)))
    again = load(compose([f"experiment={tmp_path / 'config.yaml'}"]))
    assert again == dataclasses.replace(config, experiment=str(tmp_path / "config.yaml"))


def test_names_are_those_of_the_folder(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a recipe of conf/experiment that is not found by its name, and a hint that leads nowhere."""
    conf = shutil.copytree(config_module.conf_folder(), tmp_path / "conf")
    (conf / "experiment").mkdir(exist_ok=True)
    recipe.rename(conf / "experiment" / "mine.yaml")
    monkeypatch.setattr(config_module, "conf_folder", lambda: conf)
    assert load(compose(["experiment=mine"])).algo.name == "sac"
    assert problems("experiment=mime") == ["experiment=mime: did you mean mine?"]
    assert problems("experiment=nowhere.yaml") == ["experiment=nowhere.yaml: no such file"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("algo: ppo", "algo must be a section of keys"),
        ("- 1", "it holds no settings"),
        ("a: [", "experiment="),
        ("algo: {name: ppo, gama: 0.9}", "unknown key 'algo.gama'"),
        ("total_env_step: 5", "did you mean total_env_steps?"),
        ("resume: runs/x", "a recipe cannot say resume"),
        ("algo: {name: evil.module}", "name it again, algo=evil.module"),
        ("env: {name: gymnasium, id: 'evil:Name-v0'}", "name it again, env.id=evil:Name-v0"),
        ("env: {name: custom, task: evil.task}", "name it again, env.task=evil.task"),
        ("seed: ${oc.env:HOME}", "seed="),
        ("algorithms: [sac]", "algorithms must name sections of keys"),
        ("environments: {Hopper: 1}", "environments must name sections of keys"),
    ],
)
def test_a_bad_recipe_is_refused(text: str, said: str, tmp_path: Path):
    """Catches a recipe that is believed in part, or that imports a module nobody named."""
    (tmp_path / "bad.yaml").write_text(text)
    found = problems(f"experiment={tmp_path / 'bad.yaml'}")
    assert any(said in line for line in found), found


@pytest.mark.parametrize("algo", ["dsac_t", "dsac_v1", "sac", "td3", "ddpg", "ppo"])
def test_the_shipped_recipes_fit_every_algorithm(algo: str):
    """Catches a setting that an algorithm does not have, and published settings that the word `paper` changes."""
    default = load(compose([f"algo={algo}"]))
    published, paper, fast = (
        load(compose([f"algo={algo}", f"experiment={name}"])) for name in ("null", "paper", "recipe")
    )
    assert default == fast
    assert paper.algo == published.algo == algorithm_class(algo).Config()
    assert (paper.total_env_steps, fast.total_env_steps) == (30_000_000, 1_000_000)
    assert fast.algo.observation_normalization == (algo != "dsac_v1")
    assert load(compose([f"algo={algo}", "experiment=recipe", "algo.gamma=0.5"])).algo.gamma == 0.5


def test_a_recipe_for_several_algorithms_sets_those_of_the_one_chosen(tmp_path: Path):
    """Catches settings of one algorithm that reach another, and a recipe that overrides the words."""
    path = tmp_path / "several.yaml"
    path.write_text("algorithms:\n  sac: {tau: 0.1}\n  td3: {tau: 0.2}\n")
    taus = [load(compose([f"experiment={path}", f"algo={algo}"])).algo.tau for algo in ("sac", "td3", "ddpg")]
    assert taus == [0.1, 0.2, 0.005]
    assert load(compose([f"experiment={path}", "algo=sac", "algo.tau=0.3"])).algo.tau == 0.3


def test_a_recipe_for_several_tasks_reaches_its_own_algorithms_on_them(tmp_path: Path):
    """Catches settings of one task that reach another, or an algorithm that the recipe does not tune."""
    path = tmp_path / "several.yaml"
    path.write_text("algorithms:\n  sac: {tau: 0.1, gamma: 0.9}\nenvironments:\n  Hopper: {gamma: 0.5}\n")
    for env, algo, gamma in (("Hopper", "sac", 0.5), ("Ant", "sac", 0.9), ("Hopper", "ppo", 0.99)):
        assert load(compose([f"experiment={path}", f"env={env}", f"algo={algo}"])).algo.gamma == gamma
    assert load(compose([f"experiment={path}", "env=Hopper", "algo=sac", "algo.gamma=0.7"])).algo.gamma == 0.7
    first = "experiment=first_recipe"
    assert not load(compose(["env=HalfCheetah", first])).algo.observation_normalization
    assert load(compose(["env=HalfCheetah", "algo=ppo", first])).algo.observation_normalization


@pytest.mark.parametrize("algo", ["dsac_t", "sac", "td3", "ddpg"])
def test_the_recipe_is_the_same_for_every_task(algo: str):
    """Catches a value for one task, which a robot of one's own would not have; the discount is the task's."""
    found = (load(compose([f"algo={algo}", f"env={env}"])).algo for env in TASKS)
    assert len({dataclasses.replace(one, gamma=0.5) for one in found}) == 1
