"""What may be averaged, what may be compared, and how it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run, made_seeds
from said import assert_says

from dsac.compare.comparison import incomparable
from dsac.compare.groups import Group, grouped
from dsac.compare.page.names import names
from dsac.compare.results import read
from dsac.errors import ConfigError


def groups(root: Path, until: int | None = None) -> tuple[list[Group], list[str]]:
    return grouped(read([root])[0], until)


def test_seeds_and_learners_are_averaged_whatever_the_machine(tmp_path: Path):
    """Catches a group split by the seed, by learners side by side, by threads or by a logging cadence."""
    made_run(tmp_path, "sac", [(0.0, 1.0), (0.0, 2.0)])
    made_run(
        tmp_path,
        "sac",
        (0.0, 3.0),
        "threads=2",
        "device=cpu",
        "log_every_env_steps=500",
        "export.on_new_best=true",
        seed=2,
    )
    ((group,), remarks) = groups(tmp_path)
    assert [run.seed for run in group.runs] == [0, 1, 2]
    assert group.label == "SAC"
    assert remarks == []


@pytest.mark.parametrize(
    ("words", "given", "label"),
    [
        (["algo.gamma=0.98"], {}, "DSAC-T gamma=0.98"),
        (["algo.critic_loss=release_2025"], {}, "DSAC-T critic_loss=release_2025"),
        (["algo.hidden_sizes=[64,64]"], {}, "DSAC-T hidden_sizes=[64, 64]"),
        (["eval.episodes=20"], {}, "DSAC-T eval.episodes=20"),
        ([], {"mujoco": "3.16.0"}, "DSAC-T MuJoCo 3.16.0"),
        (["precision=bfloat16"], {}, "DSAC-T precision=bfloat16"),
        (["env.backend=gymnasium"], {}, "DSAC-T env.backend=gymnasium Gymnasium 1.4.0, MuJoCo 3.17.0"),
        (["env.max_episode_steps=500"], {}, "DSAC-T env.max_episode_steps=500"),
    ],
)
def test_what_can_move_returns_is_never_averaged(tmp_path: Path, words: list[str], given: Any, label: str):
    """Catches settings, simulators or evaluations mixed into one mean, and groups that bear one name."""
    made_run(tmp_path)
    made_run(tmp_path, "dsac_t", (0.0, 50.0, 100.0), *words, seed=1, **given)
    found, _ = groups(tmp_path)
    assert [len(group.runs) for group in found] == [1, 1]
    assert label in [group.label for group in found]
    assert len({group.label for group in found}) == 2


def test_labels_are_the_same_in_every_task(tmp_path: Path):
    """Catches a label that names a setting in the one task where groups differ and drops it in the other."""
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "algo.gamma=0.98")
    made_run(tmp_path, "dsac_t", (1.0, 2.0))
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "algo.gamma=0.98", env="Ant")
    made_run(tmp_path, "ppo", (1.0, 2.0), env="Ant")
    found, _ = groups(tmp_path)
    assert [(group.env, group.label) for group in found] == [
        ("Ant-v5", "DSAC-T gamma=0.98"),
        ("Ant-v5", "PPO"),
        ("Hopper-v5", "DSAC-T"),
        ("Hopper-v5", "DSAC-T gamma=0.98"),
    ]


def test_a_label_says_what_departs_from_its_experiment(tmp_path: Path):
    """Catches a label with a dozen settings where the experiment's name says it all, one that hides a difference, and
    one of dozens of words because some other group departed in each of them."""
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "experiment=paper")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "experiment=paper", "algo.gamma=0.98")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "experiment=recipe")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "experiment=recipe", "algo.tau=0.01")
    made_run(tmp_path, "ppo", (1.0, 2.0), "experiment=recipe")
    made_run(tmp_path, "ppo", (1.0, 2.0), "experiment=paper", "algo.gae_lambda=0.9")
    found, _ = groups(tmp_path)
    assert [group.label for group in found] == [
        "DSAC-T paper",
        "DSAC-T paper gamma=0.98",
        "DSAC-T recipe",
        "DSAC-T recipe tau=0.01",
        "PPO",
        "PPO gae_lambda=0.9",
    ]


def test_what_no_recipe_here_says_is_told_apart_by_all_that_differs(tmp_path: Path):
    """Catches two groups of one name where their experiment is a file, so that nobody knows what departs from it."""
    recipe = tmp_path / "my.yaml"
    recipe.write_text("algorithms: {dsac_t: {gamma: 0.9, critic_learning_rate: 0.001}}")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), f"experiment={recipe}")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), f"experiment={recipe}", "algo.tau=0.01")
    made_run(tmp_path, "dsac_t", (1.0, 2.0))
    found, _ = groups(tmp_path)
    assert [group.label for group in found] == ["DSAC-T my tau=0.005", "DSAC-T my tau=0.01", "DSAC-T paper"]


def test_the_name_of_an_experiment_is_no_setting(tmp_path: Path):
    """Catches the same settings split by the name they were given under, and a recipe's path in a label."""
    recipe = tmp_path / "my.yaml"
    recipe.write_text("algorithms: {dsac_t: {gamma: 0.9}}")
    for experiment in ("paper", "recipe", str(recipe)):  # they say nothing of PPO
        made_run(tmp_path, "ppo", (1.0, 2.0), f"experiment={experiment}", seed=len(experiment))
        made_run(tmp_path, "dsac_t", (1.0, 2.0), f"experiment={experiment}")
    found, _ = groups(tmp_path)
    assert [(group.label, len(group.runs)) for group in found] == [
        ("DSAC-T my", 1),
        ("DSAC-T paper", 1),
        ("DSAC-T recipe", 1),
        ("PPO", 3),
    ]


def test_a_setting_that_is_null_is_as_if_it_were_not_there(tmp_path: Path):
    """Catches runs of before a setting existed that are taken for others."""
    made_run(tmp_path)
    config = made_run(tmp_path, seed=1) / "config.yaml"
    config.write_text(config.read_text() + "a_new_setting: null\n")
    assert len(groups(tmp_path)[0]) == 1


def test_a_seed_counts_once(tmp_path: Path):
    """Catches a run repeated, or learners that share seeds with single runs, counted as independent."""
    made_run(tmp_path, "sac", [(0.0, 1.0), (0.0, 2.0)])
    made_run(tmp_path, "sac", (0.0, 5.0), seed=1)
    made_run(tmp_path, "sac", (0.0, 5.0), seed=1)
    ((group,), remarks) = groups(tmp_path)
    assert [run.seed for run in group.runs] == [0, 1]
    assert [run.returns[-1] for run in group.runs] == [1, 5]
    assert len(remarks) == 2
    assert_says(remarks[0], "seed 1", "twice", "other returns")
    assert_says(remarks[1], "seed 1", "twice", "same returns")


def test_unfinished_runs_wait_or_are_compared_until_where_they_are(tmp_path: Path):
    """Catches a final mean over runs of different age, and a run cut in places that others did not reach."""
    made_run(tmp_path, "sac", (0.0, 1.0, 2.0))
    made_run(tmp_path, "ppo", (0.0, 4.0), "total_env_steps=3000")
    found, remarks = groups(tmp_path)
    assert [group.label for group in found] == ["SAC"]
    assert "left out at 2,000 of 3,000 env steps" in remarks[0]
    found, remarks = groups(tmp_path, until=2000)
    assert [run.returns[-1] for group in found for run in group.runs] == [1, 4]
    assert found[0].different(found[1]) == []
    assert remarks == []
    found, remarks = groups(tmp_path, until=3000)
    assert [group.label for group in found] == ["SAC"]
    found, _ = groups(tmp_path, until=2050)  # another cadence may have its last evaluation a little before
    assert [group.label for group in found] == ["SAC", "PPO"]
    with pytest.raises(ConfigError, match="until="):
        groups(tmp_path / "Hopper" / "ppo")


def test_a_budget_matters_where_the_learning_rate_follows_it(tmp_path: Path):
    """Catches runs on different schedules averaged because they were cut at the same step."""
    made_run(tmp_path, "ppo", (0.0, 1.0, 2.0))
    made_run(tmp_path, "ppo", (0.0, 1.0), seed=1)
    made_run(tmp_path, "sac", (0.0, 1.0, 2.0))
    made_run(tmp_path, "sac", (0.0, 1.0), seed=1)
    found, _ = groups(tmp_path, until=2000)
    assert [(group.label, len(group.runs)) for group in found] == [
        ("SAC", 2),
        ("PPO total_env_steps=2000", 1),
        ("PPO total_env_steps=3000", 1),
    ]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ([], {"mujoco": "3.16.0"}, "different simulator (MuJoCo 3.17.0: DSAC-T; MuJoCo 3.16.0: PPO)"),
        (["eval.episodes=3"], {}, "different evaluation (10 episodes: DSAC-T; 3 episodes: PPO)"),
        (["env.max_episode_steps=99"], {}, "different task"),
        (["total_env_steps=2500"], {}, "different budget (3,000 env steps: DSAC-T; 2,500 env steps: PPO)"),
    ],
)
def test_what_is_not_alike_is_not_compared(tmp_path: Path, words: list[str], given: Any, said: str):
    """Catches a verdict between runs of different simulators, evaluations, clocks or budgets."""
    made_run(tmp_path)
    made_run(tmp_path, "ppo", (0.0, 50.0, 100.0), *words, **given)
    found, _ = groups(tmp_path)
    assert found[0].different(found[1])
    assert said in incomparable(found)[0]


def test_a_learner_that_diverged_counts_and_is_named(tmp_path: Path):
    """Catches the failures of an algorithm left out of its mean, or counted without a word."""
    made_run(tmp_path, "sac", [(0.0, 9.0), (0.0, 1.0)])
    (path,) = tmp_path.glob("*/*/*/learner-1/metrics.csv")
    path.write_text(path.read_text() + "900,45,9.0,train/frozen,0.0\n1500,75,15.0,train/frozen,1.0\n")
    ((group,), remarks) = groups(tmp_path)
    assert [run.returns[-1] for run in group.runs] == [9, 1]
    assert "SAC: seed 1 stopped learning at 1,500 env steps" in remarks[0]


def test_own_algorithms_stand_after_ours_by_their_path(tmp_path: Path):
    """Catches an algorithm of one's own that fails the table, and an import of it from a run folder."""
    made_seeds(tmp_path, "sac", [1.0])
    config = made_run(tmp_path, "td3") / "config.yaml"
    config.write_text(config.read_text().replace("name: td3", "name: no_such_package.my_td3"))
    assert [group.label for group in groups(tmp_path)[0]] == ["SAC", "no_such_package.my_td3"]


def test_a_remark_on_many_groups_stays_a_line(tmp_path: Path):
    """Catches a remark that names a dozen groups, each by all the settings in which they differ."""
    for tau in (0.001, 0.002, 0.003, 0.004):
        made_run(tmp_path, "sac", (0.0, 1.0), f"algo.tau={tau}")
    made_run(tmp_path, "ppo", (0.0, 1.0, 2.0))
    (remark,) = incomparable(groups(tmp_path)[0])
    assert remark.endswith("(2,000 env steps: 4 groups; 3,000 env steps: PPO)")


def called(root: Path) -> set[tuple[str, str, str]]:
    """Task, short and full name of each group."""
    found, _ = groups(root)
    known = names(found)
    return {(group.env, *known[group.label]) for group in found}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("algo.batch_size=512", "batch 512"),
        ("algo.num_envs=1", "1 env"),
        ("algo.replay_capacity=200000", "replay of 200k"),
        ("algo.hidden_sizes=[64,64]", "layers 64 x 64"),
        ("algo.layer_norm=true", "layer norm"),
        ("algo.twin_value_distributions=false", "no twin critics"),
        ("algo.critic_loss=release_2025", "critic loss of the 2025 release"),
        ("algo.huber_delta=30", "huber_delta=30.0"),  # nobody has said how
    ],
)
def test_a_name_says_a_setting_as_a_person_does(tmp_path: Path, word: str, said: str):
    """Catches `batch_size=512` in a heading, a switch that reads as its opposite, and a setting that is lost because
    nobody wrote down how it is said."""
    made_run(tmp_path)
    made_run(tmp_path, "dsac_t", (1.0, 2.0, 3.0), word)
    assert called(tmp_path) == {("Hopper-v5", one, one) for one in ("DSAC-T", f"DSAC-T, {said}")}


def test_precision_and_budget_are_in_a_name_where_it_needs_them(tmp_path: Path):
    """Catches `precision=bfloat16 total_env_steps=600000` in a name, and two groups of a task with one full name."""
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "precision=bfloat16", "experiment=recipe", "total_env_steps=2000")
    made_run(tmp_path, "dsac_t", (1.0, 2.0, 3.0), "experiment=recipe", "total_env_steps=3000")
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "experiment=recipe", "total_env_steps=2000")
    made_run(tmp_path, "ppo", (1.0, 2.0))
    made_run(tmp_path, "ppo", (1.0, 2.0, 3.0))
    made_run(tmp_path, "dsac_t", (1.0, 2.0), "precision=bfloat16", "experiment=recipe", env="Ant")
    made_run(tmp_path, "sac", (1.0, 2.0), "precision=bfloat16", env="Ant")
    made_run(tmp_path, "sac", (1.0, 2.0, 3.0))
    assert called(tmp_path) == {
        ("Hopper-v5", "DSAC-T", "DSAC-T, 2,000 steps, bfloat16"),
        ("Hopper-v5", "DSAC-T", "DSAC-T, 3,000 steps, float32"),
        ("Hopper-v5", "DSAC-T", "DSAC-T, 2,000 steps, float32"),
        ("Hopper-v5", "PPO", "PPO, 2,000 steps"),
        ("Hopper-v5", "PPO", "PPO, 3,000 steps"),
        ("Hopper-v5", "SAC", "SAC"),
        ("Ant-v5", "DSAC-T", "DSAC-T, 2,000 steps, bfloat16"),
        ("Ant-v5", "SAC", "SAC"),
    }


def test_names_that_would_be_one_are_the_labels(tmp_path: Path):
    """Catches two groups of one name because their settings differ in digits that a name does not show."""
    for rate in ("0.000123451", "0.000123452"):
        made_run(tmp_path, "ppo", (1.0, 2.0), f"algo.learning_rate={rate}")
    assert {full for _, _, full in called(tmp_path)} == {
        "PPO learning_rate=0.000123452",
        "PPO learning_rate=0.000123451",
    }
