"""One rule a setting: what it decides, so when two runs are the same, what a resume may change, what is searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import only_run, small_config, small_words

from dsac import sweep
from dsac.algorithms import load as load_algorithm
from dsac.algorithms import names
from dsac.callbacks import logger
from dsac.compare import labels, overrides, results
from dsac.config import compose, conf_folder, load
from dsac.runs import resume
from dsac.runs.config_text import tree_of_lines
from dsac.schema import ranges
from dsac.schema.plain_data import parse_yaml
from dsac.schema.run_config import NOT_OF_A_RUN, RULES, SECTIONS, TrainConfig, algorithm_rules
from dsac.schema.validate import flat, lists
from dsac.sweep import find_runs
from dsac.sweep.plan import Planned
from dsac.sweep.runner import FINISHED_RUN, WAITING, Sweep
from dsac.tune import recipe as tune_recipe
from dsac.tune import search_space

SAME = [key for key, rule in RULES.items() if rule.kind in (ranges.MACHINE, ranges.RECORD)]
OTHER = [key for key in RULES if key not in SAME]
# A value for each setting that is not of the kinds whose other value follows from the default.
VALUES: dict[str, Any] = {
    "experiment": None, "threads": 3, "device": "cuda", "accelerate": "compile", "export.safe_action": "zero",
    "runs": "elsewhere", "ray.address": "auto", "env.id": "Other-v0", "env.xml": "b.xml", "env.task": "b",
    "env.name": "Ant", "env.backend": "gymnasium", "env.max_episode_steps": 7, "precision": "tf32", "init_from": "a",
    "collect": "ray", "env.kwargs": {"mass": 4}, "env.wrappers": ["own:Half"],
}  # fmt: skip


def changed(config: TrainConfig, key: str) -> TrainConfig:
    """The config with another value of one setting."""
    section, _, name = key.rpartition(".")
    part = getattr(config, section) if section else config
    value = getattr(part, name)
    other = VALUES[key] if key in VALUES else not value if isinstance(value, bool) else value + 1
    assert other != value
    part = dataclasses.replace(part, **{name: other})
    return dataclasses.replace(config, **{section: part}) if section else part


def test_every_setting_has_one_rule():
    """Catches a setting that no list knows: it would silently be of another kind in each."""
    sections = {name: {field.name for field in dataclasses.fields(schema)} for name, schema in SECTIONS.items()}
    own = {field.name for field in dataclasses.fields(TrainConfig)} - {*SECTIONS, "algo"}
    assert RULES.keys() == own | {f"{name}.{key}" for name, keys in sections.items() for key in keys}
    for name in names():
        rules = algorithm_rules(load_algorithm(name).Config)
        assert rules.keys() == {key for key in flat(compose([f"algo={name}"])) if key.startswith("algo.")}
        assert {rule.kind for rule in rules.values()} == {ranges.LEARNING}
        every = [*RULES.values(), *rules.values()]
        assert {rule.kind for rule in every} == {*ranges.KINDS}
        assert {rule.change for rule in every} == {ranges.FREE, ranges.DECLARED, ranges.FIXED}


def test_an_algorithm_that_has_another_default_keeps_the_rule():
    """Catches PPO's hidden sizes, a field declared anew, that may suddenly change on resume."""
    rules = algorithm_rules(load_algorithm("ppo").Config)
    fixed = {"algo.hidden_sizes", "algo.activation", "algo.num_envs", "algo.observation_normalization"}
    assert {rules[key].change for key in fixed} == {ranges.FIXED}
    assert rules["algo.learning_rate"].change == ranges.DECLARED
    assert resume.fixed("algo.reward_normalization")
    assert not resume.fixed("algo.reward_normalization", "sac")


def test_the_lists_that_are_made_of_the_rules_agree():
    """Catches a list that is kept by hand again beside the others."""
    assert {"stall_seconds", "eval.video", "export.on_new_best", "keep_checkpoints", "device"} <= {*SAME}
    assert {*SAME} - {"runs"} <= resume.FREE
    assert {*results.NO_MATTER} == {*SAME, "seed", "learners", "resume"}
    assert {*SAME} == NOT_OF_A_RUN
    assert {*SAME, *labels.LENGTHS, "eval.episodes", "seed", "env.id", "init_from"} <= {*search_space.NOT_SEARCHED}
    assert not {"env.randomise", "precision", "algo.gamma"} & {*search_space.NOT_SEARCHED}
    assert {"eval", "export", "ray"} == search_space.SECTIONS_NOT_SEARCHED
    assert {*tune_recipe.NOT_OF_A_RECIPE} == {*SAME, "seed"}
    assert {"device", "experiment", "seed"}.isdisjoint(logger.BOOKKEEPING)
    assert {*overrides.LEFT_OUT} - {"seed", "resume"} <= {*SAME}
    assert labels.LENGTHS == ["total_env_steps", "eval_every_env_steps"]


class Refusing:
    """A launcher that starts nothing."""

    def slots(self) -> int:
        return 1

    def start(self, run: Planned) -> Any:
        raise AssertionError(f"{run.title} is trained anew")

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def done(finished_runs: Callable[[str], Path]) -> TrainConfig:
    """The config of a run that is finished."""
    return small_config(finished_runs("ppo").parents[2], "ppo")


@pytest.mark.parametrize("key", [key for key in SAME if key != "runs"])
def test_a_finished_sweep_in_other_words_trains_nothing(done: TrainConfig, key: str):
    """Catches a run of hours that is trained anew for a setting that changes nothing of what it learned."""
    work = Sweep([Planned(changed(done, key), ())], Refusing())
    assert work.runs[0].state == FINISHED_RUN
    work.carry_out(lambda *_: None)


def test_a_finished_sweep_that_is_typed_again_trains_nothing(done: TrainConfig, capsys: pytest.CaptureFixture[str]):
    """Catches a command line on which such a setting has a run begun anew."""
    others = ["stall_seconds=700", "log_every_env_steps=16", "eval.video=true", "threads=2", "keep_checkpoints=9"]
    assert sweep.main([*small_words(Path(done.runs), "ppo"), *others]) == 0
    assert "1 finished, 0 to continue, 0 to start" in capsys.readouterr().out
    only_run(Path(done.runs))


@pytest.mark.parametrize("key", [key for key in OTHER if not key.startswith("ray.")])
def test_what_tells_runs_apart_does(done: TrainConfig, key: str):
    """Catches a sweep that takes a run that learned something else for its own."""
    assert Sweep([Planned(changed(done, key), ())], Refusing()).runs[0].state == WAITING


def test_where_rays_settings_count(done: TrainConfig):
    """Catches two runs told apart by what neither of them uses, and not told apart by what both of them do."""
    there = dataclasses.replace(done, collect="ray")
    for key in ("ray.block_steps", "ray.max_lag"):
        assert find_runs.identity(changed(done, key)) == find_runs.identity(done)
        assert find_runs.identity(changed(there, key)) != find_runs.identity(there)
    for key in ("ray.address", "ray.cpus", "ray.silent_seconds"):
        assert find_runs.identity(changed(there, key)) == find_runs.identity(there)


def test_other_words_of_the_same_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run that is not found again for a way of writing a number, a name or a place."""
    (tmp_path / "a.xml").write_text("<mujoco/>")
    monkeypatch.chdir(tmp_path)
    recipe = conf_folder() / "experiment" / "recipe.yaml"
    pairs = [
        (["env=Hopper"], ["env=Hopper-v5"]),
        (["num_envs=4"], ["algo.num_envs=4"]),
        (["total_env_steps=2e6"], ["total_env_steps=2_000_000"]),
        (["algo.hidden_sizes=[64,64]"], ["algo.hidden_sizes=64,64"]),
        (["algo.critic_learning_rate=1e-3"], ["algo.critic_learning_rate=0.001"]),
        (["experiment=recipe", "env=Hopper"], ["env=Hopper", f"experiment={recipe}"]),
        (["init_from=runs/a"], [f"init_from={tmp_path}/runs/./a/"]),
        (["runs=runs"], [f"runs={tmp_path}/runs"]),
    ]  # fmt: skip
    for one, other in pairs:
        assert find_runs.identity(load(compose(one))) == find_runs.identity(load(compose(other))), (one, other)


def test_a_quick_reader_of_configs_reads_what_the_library_reads(done: TrainConfig):
    """Catches a short way through a config.yaml that ends elsewhere than the long one."""
    path = only_run(Path(done.runs)) / "config.yaml"
    texts = [
        path.read_text(),
        "a: yes\nb:\n  c: 1_0\n  d: 010\n  e:\n  - a b\n  - 1.0e-05\nf:\n- on\n",
        "a: ~\nb: ...\n",
    ]
    for text in texts:
        assert tree_of_lines(text) == parse_yaml(text) == lists(yaml.safe_load(text))
    for odd in [
        "",
        "a:",
        "a: 1\na: 2",
        "a:\n- 1\n  b: 2",
        "a: 1\n  b: 2",
        "a: [1]",
        "a: '1'",
        "a: 1 # b",
        "a:\nb: 1",
        "a: -",
    ]:
        with pytest.raises(ValueError, match=r"."):
            tree_of_lines(odd)
