"""Words and saved files to checked values: what is wrong is refused, all at once, with the key and the way out."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsac.algorithms import load as load_algorithm
from dsac.algorithms import names
from dsac.cli.write_conf import conf_files
from dsac.config import compose, flat_keys, load, remark, to_tree
from dsac.errors import ConfigError
from dsac.runs.saved_config import saved
from dsac.schema.ranges import rules_of
from dsac.schema.run_config import EnvConfig, TrainConfig
from dsac.schema.validate import checked, plain_value

ALGORITHMS = names()
SHORTCUTS = {"num_envs", "updates_per_env_step"}


def problems_of(*words: str) -> list[str]:
    """The lines that refuse these words."""
    problems: list[str] = []
    tree = compose(words, problems)
    with pytest.raises(ConfigError) as refused:
        load(tree, problems)
    return list(refused.value.problems)


def settings(algo: str) -> dict[str, tuple[Any, Any, Any]]:
    """Every setting that a user may give, dotted: its type, its range, its default."""
    config = load(compose([f"algo={algo}"]))
    found = {}
    sections = {name: getattr(config, name) for name in ("algo", "env", "eval", "export", "ray")}
    for section, part in (("", config), *((f"{name}.", part) for name, part in sections.items())):
        hints = typing.get_type_hints(type(part))
        for field in dataclasses.fields(part):
            if field.name not in ("name", *sections) and hints[field.name] is not Any:
                found[section + field.name] = (
                    hints[field.name],
                    rules_of(type(part))[field.name],
                    getattr(part, field.name),
                )
    return found


def typos(key: str) -> list[str]:
    """The key with one letter left out, doubled or changed, at a place that depends on the key."""
    last = key.rpartition(".")[2]
    place = len(key) - len(last) + len(last) // 2
    return [key[:place] + key[place + 1 :], key[:place] + key[place] + key[place:], f"{key[:place]}q{key[place + 1 :]}"]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_typo_of_every_key_is_refused_with_the_key(algo: str):
    """Catches a key that is taken silently, and a hint that points elsewhere."""
    tree = compose([f"algo={algo}"])
    known = [key for key in flat_keys(tree) if key.rpartition(".")[2] != "name" and key not in ("algo", "env", "eval")]
    for typo in range(3):
        given = {typos(key)[typo]: key for key in known if typos(key)[typo] not in known}
        problems: list[str] = []
        compose([f"algo={algo}", *(f"{key}=1" for key in given)], problems)
        assert len(problems) == len(given)
        for problem, (wrong, right) in zip(problems, given.items(), strict=True):
            assert problem == f"unknown key '{wrong}': did you mean {right}?"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_wrong_type_of_every_key_is_refused_in_one_go(algo: str):
    """Catches a field that takes anything, a check that stops at the first problem, and a default left out of it."""

    def wrong(key: str) -> str:
        return "[1]" if key == "env.kwargs" else "{a: 1}"

    keys = settings(algo)
    problems = problems_of("env=custom", f"algo={algo}", *(f"{key}={wrong(key)}" for key in keys))
    assert sorted(problem.partition("=")[0] for problem in problems) == sorted(keys)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_null_is_refused_unless_it_means_something(algo: str):
    """Catches a None that reaches a constructor."""
    keys = settings(algo)
    wanted = [key for key, (kind, _, _) in keys.items() if type(None) not in typing.get_args(kind)]
    problems = problems_of("env=custom", f"algo={algo}", *(f"{key}=null" for key in keys))
    assert sorted(problem.partition("=null")[0] for problem in problems) == sorted(wanted)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_values_just_out_of_range_are_refused_in_one_go(algo: str):
    """Catches a range that is not looked at, and a bound that lies elsewhere than its field says."""
    given = {}
    for key, (_, rule, _) in settings(algo).items():
        if "low" in rule:
            given[key] = rule["low"] - 1
        if "above" in rule:
            given[key] = rule["above"]
        if "options" in rule:
            given[key] = "zzz"
    given |= {key: rule["high"] + 0.5 for key, (_, rule, _) in settings(algo).items() if "high" in rule}
    problems = problems_of(f"algo={algo}", *(f"{key}={value}" for key, value in given.items()))
    assert sorted(problem.partition("=")[0] for problem in problems) == sorted(given)
    assert len(given) > 15


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_saved_config_reloads(algo: str):
    """Catches a value that yaml changes on its way through config.yaml: 1e-4 as text, a tuple, null."""
    config = load(compose([f"algo={algo}", "seed=3", "algo.hidden_sizes=[7,9]"]))
    assert load(yaml.safe_load(yaml.safe_dump(to_tree(config)))) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1e6", 1e6),
        ("1_000", 1000),
        ("3e-4", 3e-4),
        ("-0.5", -0.5),
        ("", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("[64,64]", [64, 64]),
        ("[1e2, 1_0]", [100.0, 10]),
        ("'5'", "5"),
        ('"a b"', "a b"),
        ("Humanoid", "Humanoid"),
        ("on", "on"),
        ("no", "no"),
        ("~/runs", "~/runs"),
        ("/data/my runs #1: x", "/data/my runs #1: x"),
        ("2026-11-21", "2026-11-21"),
        ("[64,", "[64,"),
        ("@x", "@x"),
        ("!!python/object:os.system", "!!python/object:os.system"),
        ("[!!python/name:os.system ]", "[!!python/name:os.system ]"),
    ],
)
def test_words_mean_what_they_look_like(text: str, value: Any):
    """Catches yaml's surprises: 1e6 as text, no as false, a date, a comment that cuts a path."""
    found = plain_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1e6, int, 1_000_000),
        (1.5, int, None),
        (True, int, None),
        (1, bool, None),
        (3, float, 3.0),
        (float("nan"), float, None),
        (float("inf"), float, None),
        (float("inf"), int, None),
        ("5", int, None),
        ("", str, None),
        (5, str, None),
        ("64,32", tuple[int, ...], (64, 32)),
        ([64, 32], tuple[int, ...], (64, 32)),
        ([64, 0], tuple[int, ...], None),
        ([64, True], tuple[int, ...], None),
        ([], tuple[int, ...], None),
        (64, tuple[int, ...], None),
    ],
)
def test_nothing_is_lost_on_the_way_to_a_type(value: Any, kind: Any, expected: Any):
    """Catches 1.5 cut to 1, true counted as 1, and a NaN that passes every comparison."""
    problems: list[str] = []
    found = checked(value, kind, {}, "key", problems)
    assert (len(problems) == 1) if expected is None else (found == expected and type(found) is type(expected))


def test_all_problems_are_listed_at_once():
    """Catches a check that hides the second mistake until the first is repaired."""
    problems = problems_of(
        "env=Humonoid", "algo=dsac_tt", "seeed=1", "seed", "+seed=1", "eval.episodes=0", "device=gpu", "eval=3"
    )
    start = [problem.split(":")[0].split(" ")[0] for problem in problems]
    assert sorted(start) == sorted(
        ["env=Humonoid", "algo=dsac_tt", "unknown", "'seed'", "'+seed=1'", "eval=3", "device=gpu"]
    )
    assert any("Humanoid" in problem for problem in problems)
    assert any("dsac_t" in problem for problem in problems)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env=gymnasium"], "env.id="),
        (["env=gymnasium", "env.id=Pendulun-v1"], "Pendulum-v1"),
        (["env=gymnasium", "env.id=no_such_module:Name-v0"], "no_such_module"),
        (["env=Humanoid-v4"], "v5"),
        (["env=Humanoid", "env.id=Pendulum-v1"], "env=gymnasium"),
        (["env=Humanoid", "env.xml=robot.xml"], "env.xml=robot.xml belongs to a robot of your own: env=custom"),
        (["env=Hopper", "env.randomise=true"], "env.randomise=true belongs to a robot of your own: env=custom"),
        (["algo=ppo", "updates_per_env_step=1"], "algo.updates_per_env_step"),
        (["algo=ppo", "algo.updates_per_env_step=1"], "algo.updates_per_env_step"),
        (["algo=ppo", "algo.minibatch_size=60"], "algo.minibatch_size=60"),
        (["algo.warmup_env_steps=200", "algo.batch_size=256"], "algo.batch_size=256"),
        (["algo.replay_capacity=500"], "algo.replay_capacity=500"),
        (["algo.log_std_min=0.6"], "algo.log_std_min=0.6 must be less than algo.log_std_max=0.5"),
        (["algo=sac", "algo.log_std_min=-1", "algo.log_std_max=-1"], "algo.log_std_min=-1 must be less"),
        (["algo=dsac_v1", "algo.log_std_max=-30"], "algo.log_std_max=-30"),
        (["algo.log_std_max=50"], "algo.log_std_max=50.0 must be at most 2.0"),
        (["algo.log_std_min=-200"], "algo.log_std_min=-200.0 must be at least -40.0"),
        (["algo=ppo", "algo.initial_log_std=90"], "algo.initial_log_std=90.0 must be at most 2.0"),
        (["algo=ppo", "algo.clip_low=0", "algo.clip_high=0"], "algo.clip_low and algo.clip_high are both 0"),
        (["algo=ppo", "algo.kl_adaptive_target=0.01"], "algo.kl_penalty"),
        (["algo.n_step=1000", "num_envs=20", "algo.replay_capacity=10000"], "algo.n_step=1000 steps"),
        (["num_envs=20000", "algo.replay_capacity=10000"], "algo.num_envs=20000 envs"),
        (["algo.tau=0"], "algo.tau=0.0 must be above 0"),
        (["algo.sigma_average_rate=0"], "algo.sigma_average_rate=0.0 must be above 0"),
        (["ray.address=auto"], "ray.address=auto needs collect=ray"),
        (["collectors=2"], "collectors=2 needs collect=ray"),
        (["overlap=true", "collect=ray"], "overlap=true"),
        (["num_envs=4", "algo.num_envs=8"], "num_envs=4"),
        (["algo.name=sac"], "algo=sac"),
        (["algo=no_such_module.there"], "no_such_module"),
        (["algo=.relative"], "algo=.relative"),
        (["algo=../../etc.passwd"], "etc.passwd"),
        (["algo.hidden_sizes=64"], "[256,256]"),
        (["backend=gymnasium"], "env.backend"),
        (["hidden_sizes=[64]"], "algo.hidden_sizes"),
    ],
)
def test_one_clear_line(words: list[str], said: str):
    """Catches a contradiction that training would meet later, or a line that does not say what to change."""
    (problem,) = problems_of(*words)
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize("words", [["runs=${oc.env:SECRET}"], ["algo.gamma=${seed}"], ["algo=x.${oc.env:SECRET}"]])
def test_interpolations_are_not_resolved(words: list[str], monkeypatch: pytest.MonkeyPatch):
    """Catches a config that can read the environment: a run folder is often shared."""
    monkeypatch.setenv("SECRET", "hunter2")
    assert problems_of(*words) == [f"{words[0]}: a value stands for itself, ${{...}} is not resolved"]


@pytest.mark.parametrize("key", ["runs", "device"])
def test_interpolations_in_a_saved_config_are_refused(key: str, monkeypatch: pytest.MonkeyPatch):
    """Catches a saved config that is given to omegaconf, which resolves what stands in it."""
    monkeypatch.setenv("SECRET", "hunter2")
    tree = to_tree(load(compose([])))
    with pytest.raises(ConfigError, match=key) as refused:
        load({**tree, key: "${oc.env:SECRET}"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "env: 5\nalgo: {}", "a: [", "!!python/object/apply:os.system [touch canary]", "\x00"],
)
def test_damaged_saved_config_is_refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback, or a loader that makes objects of what a file says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        saved(tmp_path, {})
    assert not (tmp_path / "canary").exists()


def test_hydra_targets_in_a_saved_config_are_unknown_keys():
    """Catches a loader that instantiates what a string names."""
    tree = to_tree(load(compose([])))
    tree["env"]["_target_"] = "os.system"
    with pytest.raises(ConfigError, match=r"unknown key 'env\._target_'"):
        load(tree)


def test_shortcuts_reach_the_algorithm():
    """Catches num_envs that is read but not used, and a null that overwrites the algorithm's own."""
    assert load(compose([])).algo.num_envs == 20
    config = load(compose(["num_envs=1", "updates_per_env_step=1"]))
    assert (config.algo.num_envs, config.algo.updates_per_env_step) == (1, 1.0)
    assert SHORTCUTS.isdisjoint(to_tree(config))


def test_the_files_of_conf_are_those_that_the_settings_write():
    """Catches a default that is changed in a field or in a yaml alone: what --help prints would not be what is used."""
    for path, text in conf_files().items():
        assert path.read_text() == text, f"{path} differs from the fields: python -m dsac.cli.write_conf"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_plain_command_has_the_defaults_of_the_fields(algo: str):
    """Catches a yaml that is read otherwise than it was written, such as 1e-4 as text."""
    expected = TrainConfig(env=EnvConfig(name="Humanoid"), algo=load_algorithm(algo).Config(), experiment=None)
    assert load(compose([f"algo={algo}", "experiment=null"])) == expected


def test_a_field_that_is_declared_again_keeps_its_range():
    """Catches an algorithm with another default that loses what its base says of the field: its range, its help."""
    assert "algo.activation=tahn must be one of gelu, " in problems_of("algo=ppo", "algo.activation=tahn")[0]
    assert "algo.delay=0 must be at least 1" in problems_of("algo=sac", "algo.delay=0")
    assert rules_of(load_algorithm("ppo").Config)["hidden_sizes"]["help"]


def test_words_after_the_groups_win_whatever_their_order():
    """Catches an override that the group chosen later wipes out."""
    words = ["algo.gamma=0.5", "algo=sac", "env=Swimmer"]
    assert load(compose(words)).algo.gamma == 0.5
    assert load(compose(words[1:])).algo.gamma == 0.9999


MODULE = """
from dataclasses import dataclass
from dsac.algorithms.base import OffPolicy
from dsac.schema.algorithm_config import OffPolicyConfig
from dsac.schema.ranges import positive

@dataclass(frozen=True)
class MineConfig(OffPolicyConfig):
    name: str = "mine"
    spice: float = positive(2.0)

class Mine(OffPolicy):
    Config = MineConfig
"""


def test_algorithm_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an import path without its own fields, without the task's settings, or lost in the saved config."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_algorithm.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    config = load(compose(["algo=my_package.my_algorithm", "algo.spice=3", "env=Swimmer"]))
    assert (config.algo.spice, config.algo.gamma, config.algo.name) == (3.0, 0.9999, "my_package.my_algorithm")
    assert load(to_tree(config)) == config
    assert "algo.spice=0" in problems_of("algo=my_package.my_algorithm", "algo.spice=0")[0]
    assert "algo.spice" in problems_of("algo=my_package.my_algorithm", "algo.spicy=0")[0]


def test_settings_that_are_not_an_algorithms_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an attribute error in the middle of the program for settings that lack what every algorithm's have."""
    (tmp_path / "our_package").mkdir()
    (tmp_path / "our_package" / "wrong.py").write_text(MODULE.replace("MineConfig(OffPolicyConfig)", "MineConfig"))
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = problems_of("algo=our_package.wrong")
    assert "the Config of Mine" in problem
    assert "AlgorithmConfig" in problem


def test_module_in_a_run_folder_is_not_imported_unless_named_again(tmp_path: Path):
    """Catches a run folder that runs code of its choice on whoever looks at it."""
    tree = to_tree(load(compose([])))
    tree["algo"]["name"], tree["env"]["id"] = "my_package.my_algorithm", "their_module:Name-v0"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as refused:
        saved(tmp_path, {"algo": "my_package.other"})
    assert [line.rpartition(" ")[2] for line in refused.value.problems] == [
        "algo=my_package.my_algorithm",
        "env.id=their_module:Name-v0",
    ]
    saved(tmp_path, {"algo": "my_package.my_algorithm", "env.id": "their_module:Name-v0"})
    saved(tmp_path, {"env.id": "their_module:Name-v0"}, uses=("env",))


def test_cadences_beyond_the_budget_are_one_line():
    """Catches a short trial run that is refused, or left wondering why nothing is logged."""
    assert remark(load(compose([]))) is None
    line = remark(load(compose(["total_env_steps=20000"])))
    assert line is not None
    assert "eval_every_env_steps=50000, checkpoint_every_env_steps=500000" in line
    assert "algo.warmup_env_steps=10000" in (remark(load(compose(["total_env_steps=9999"]))) or "")
    assert "\n" not in line
