"""README's results and docs/results.md say what docs/results/ holds, and nothing is averaged that differs."""

from __future__ import annotations

import csv
import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import results as page
import results_contests as contests
import results_entries as entries
import results_stages as stages
from made_runs import made_run, made_seeds

from dsac.compare import results
from dsac.compare.groups import grouped, shared
from dsac.compare.scores import final
from dsac.config import to_tree
from dsac.schema.validate import flat
from dsac.sweep.command import prepare

ROOT = Path(__file__).parent.parent
HELD = ROOT / "docs" / "results"
ONE_TO_ONE = ("num_envs=1", "updates_per_env_step=1")


@pytest.fixture(scope="module")
def held() -> entries.Found:
    """What the repository holds."""
    return entries.gathered(HELD)


@pytest.fixture(scope="module")
def blocks(held: entries.Found) -> dict[str, dict[str, str]]:
    """What its pages must say."""
    return page.blocks(held)


def committed(tmp_path: Path) -> entries.Found:
    """What a folder of made runs says once it is committed."""
    results.write_committed(tmp_path / "docs" / "made", results.read([tmp_path / "runs"])[0])
    return entries.gathered(tmp_path / "docs")


def table(found: entries.Found, env: str = "Hopper-v5") -> dict[tuple[str, str], list[str]]:
    """The rows of a task's table by label and env steps: seeds, updates, return, ..."""
    return {(row[0], row[2]): [row[1], *row[3:]] for row in page.reached(found.tasks[env]).rows}


@pytest.mark.parametrize("name", [page.README, page.PAGE, page.RECIPE])
def test_pages_are_current(blocks: dict[str, dict[str, str]], name: str):
    """Catches a folder that was added, or a tool that was changed, without `make results`."""
    text = (ROOT / name).read_text()
    assert page.rewritten(text, blocks[name]) == text, "make results"


def test_every_figure_is_there(held: entries.Found):
    """Catches a task whose folder was added without `make results`, and a figure that nothing shows any more."""
    wanted = {picture.path for env, found in held.tasks.items() for picture in page.pictures(env, found)}
    assert {f"results/{path.name}" for path in HELD.glob("*.png")} == wanted


def test_every_run_is_in_one_row(held: entries.Found):
    """Catches a folder that is passed over, and a run that counts in two groups."""
    names = [
        (env, run.name, run.algorithm, run.settings["precision"])
        for env, found in held.tasks.items()
        for one in found
        for run in one.group.runs
    ]
    runs = [run for path in HELD.glob("*/runs.json") for run in json.loads(path.read_text())["runs"]]
    assert len(set(names)) == len(names) == len(runs) - sum("was run twice" in line for line in held.remarks)


def test_a_changed_evaluation_changes_every_table(tmp_path: Path, blocks: dict[str, dict[str, str]]):
    """Catches a table that is read from somewhere else."""
    shutil.copytree(HELD, tmp_path / "results")
    path = tmp_path / "results" / "pendulum-and-cheetah" / "evaluations.csv"
    runs = results.read_committed(path.parent)
    changed = next(number for number, run in enumerate(runs) if "Double" in run.env and run.algorithm == "ppo")
    lines = path.read_text().splitlines()
    place = max(index for index, line in enumerate(lines) if line.startswith(f"{changed},"))
    lines[place] = ",".join([*lines[place].split(",")[:4], "-1000000.0"])
    path.write_text("\n".join(lines) + "\n")
    doctored, true = page.blocks(entries.gathered(tmp_path / "results")), blocks
    assert doctored[page.README]["headline"] != true[page.README]["headline"]
    assert doctored[page.RECIPE]["side by side"] != true[page.RECIPE]["side by side"]
    for name in ("equal env steps", "differences", "tasks"):
        assert doctored[page.PAGE][name] != true[page.PAGE][name]
    assert doctored[page.PAGE]["rates"] == true[page.PAGE]["rates"]


def test_precision_and_protocol_stay_apart(tmp_path: Path):
    """Catches an average over runs that differ in more than the seed, and a name that does not say in what."""
    runs = tmp_path / "runs"
    made_seeds(runs, "dsac_t", (100.0, 200.0))
    made_seeds(runs, "dsac_t", (1000.0,), "precision=bfloat16")
    made_seeds(runs, "dsac_t", (5000.0,), *ONE_TO_ONE)
    made_seeds(runs, "ppo", (40.0, 60.0))
    found = committed(tmp_path)
    rows = {label: (cells[0], cells[2]) for (label, _), cells in table(found).items()}
    assert rows == {
        "DSAC-T published": ("2", "150.0 [100.0, 200.0]"),
        "DSAC-T published precision=bfloat16": ("1", "1,000"),
        "DSAC-T published num_envs=1 updates_per_env_step=1.0": ("1", "5,000"),
        "PPO": ("2", "50.0 [40.0, 60.0]"),
    }
    (line,) = contests.at_equal_env_steps(found.tasks)
    assert line == ["Hopper-v5", "3,000 env steps", "-", "150.0 [100.0, 200.0] (2)", "-", "-", "50.0 [40.0, 60.0] (2)"]


def test_a_figure_compares_methods_with_the_same_words(tmp_path: Path):
    """Catches a line of other words in the figure, two lines of a method, and the run of PPO that ended early."""
    runs = tmp_path / "runs"
    made_seeds(runs, "dsac_t", (1.0, 2.0, 3.0))
    made_seeds(runs, "dsac_t", (4.0, 5.0), "precision=bfloat16")
    made_seeds(runs, "dsac_t", (6.0, 7.0), "precision=bfloat16", "algo.delay=1")
    made_seeds(runs, "sac", (8.0,), "precision=bfloat16")
    made_run(runs, "ppo", (1.0, 2.0, 9.0))
    made_run(runs, "ppo", (1.0, 2.0, 3.0, 4.0, 10.0))
    words, groups = page.drawn(committed(tmp_path).tasks["Hopper-v5"])
    assert words == "precision=bfloat16"
    ends = {group.label: final(group).tolist() for group in groups}
    assert ends == {"DSAC-T published": [4.0, 5.0], "SAC published": [8.0], "PPO": [10.0]}


def test_published_settings_and_their_changes_have_figures(tmp_path: Path):
    """Catches algorithms or ablations without curves, a change without what it is a change of, and two at once."""
    runs, loss = tmp_path / "runs", "algo.critic_loss=release_2025"
    for number, algo in enumerate(("dsac_t", "sac", "td3")):
        made_run(runs, algo, (0.0, float(number)), "precision=bfloat16")
        made_run(runs, algo, (0.0, 50.0), "precision=bfloat16", "experiment=recipe")
    made_run(runs, "ppo", (0.0, 9.0))
    for number, words in enumerate([(loss,), ("algo.twin_value_distributions=false",), (loss, "algo.tau=0.01")]):
        made_run(runs, "dsac_t", (0.0, 20.0 + number), "precision=bfloat16", *words)
    methods, published, changes = page.pictures("Hopper-v5", committed(tmp_path).tasks["Hopper-v5"])
    assert [group.label for group in methods.groups] == [
        "DSAC-T recipe", "DSAC-T published", "SAC recipe", "SAC published", "PPO",
    ]  # fmt: skip
    assert [group.label for group in published.groups] == ["DSAC-T published", "SAC published", "PPO", "TD3 published"]
    assert {group.label: final(group).tolist() for group in changes.groups} == {
        "DSAC-T published": [0.0],
        "critic_loss=release_2025": [20.0],
        "twin_value_distributions=false": [21.0],
    }
    paths = [picture.path for picture in (methods, published, changes)]
    assert paths == [f"results/Hopper-v5{end}.png" for end in ("", "-published", "-published-changes")]


def test_a_task_without_dsac_t_has_figures_too(tmp_path: Path):
    """Catches a page that cannot be written because somebody began with the baselines."""
    for algo in ("td3", "ddpg", "dsac_v1"):
        made_run(tmp_path / "runs", algo, (0.0, 1.0))
    first, second = page.pictures("Hopper-v5", committed(tmp_path).tasks["Hopper-v5"])
    assert [group.label for group in first.groups] == [group.label for group in second.groups]
    assert {group.label for group in first.groups} == {"TD3 published", "DDPG published", "DSAC-v1"}


def test_a_row_of_other_words_needs_two_methods(tmp_path: Path):
    """Catches one update per env step, or bfloat16, in the row of the default."""
    for algo, plain, other in (("dsac_t", 100.0, 900.0), ("sac", 50.0, 800.0)):
        made_seeds(tmp_path / "runs", algo, (plain,), "experiment=recipe")
        made_seeds(tmp_path / "runs", algo, (other,), "experiment=recipe", *ONE_TO_ONE)
    first, second = contests.at_equal_env_steps(committed(tmp_path).tasks)
    assert first == ["Hopper-v5", "3,000 env steps", "100.0 (1)", "-", "50.0 (1)", "-", "-"]
    assert second[0] == "Hopper-v5 num_envs=1 updates_per_env_step=1.0"
    assert second[1:] == ["3,000 env steps", "900.0 (1)", "-", "800.0 (1)", "-", "-"]


def test_a_seed_that_went_on_alone_has_a_row_of_its_own(tmp_path: Path):
    """Catches a long run that is cut away, one that is averaged with others that were not there, and half a curve."""
    made_run(tmp_path / "runs", "dsac_t", (0.0, 10.0, 30.0, 50.0, 70.0, 600.0), seed=0)
    made_run(tmp_path / "runs", "dsac_t", (0.0, 20.0, 40.0), seed=1)
    found = committed(tmp_path)
    assert {key: (cells[0], cells[2]) for key, cells in table(found).items()} == {
        ("DSAC-T published", "3,000"): ("2", "35.0 [30.0, 40.0]"),
        ("DSAC-T published", "6,000"): ("1", "600.0"),
    }
    curve = stages.whole_curve(found.tasks["Hopper-v5"][0].group)
    assert curve.x.tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    assert curve.mean.tolist() == [0, 15, 35, 50, 70, 600]
    assert np.isnan(curve.low).tolist() == [False] * 3 + [True] * 3


def test_what_goes_on_has_rows_further_on(tmp_path: Path):
    """Catches a headline that ends where the shortest of its methods did, and a row twice."""
    made_run(tmp_path / "runs", "dsac_t", (1.0, 2.0), "experiment=recipe")
    made_run(tmp_path / "runs", "dsac_t", (1.0, 3.0, 5.0, 7.0), "experiment=paper")
    made_run(tmp_path / "runs", "sac", (1.0, 4.0, 6.0), "experiment=paper")
    made_run(tmp_path / "runs", "ppo", (0.0,) * 8)
    for algo, evaluations in (("dsac_t", 20), ("sac", 21)):  # as far as each other, but for a block
        made_run(tmp_path / "runs", algo, (1.0,) * evaluations, env="Ant")
    ant, *hopper = contests.at_equal_env_steps(committed(tmp_path).tasks)
    assert ant == ["Ant-v5", "20,000 env steps", "-", "1.00 (1)", "-", "1.00 (1)", "-"]
    assert [row[1:] for row in hopper] == [
        ["2,000 env steps", "2.00 (1)", "3.00 (1)", "-", "4.00 (1)", "-"],
        ["3,000 env steps", "-", "5.00 (1)", "-", "6.00 (1)", "-"],
        ["4,000 env steps", "-", "7.00 (1)", "-", "-", "-"],
    ]


def test_the_readme_has_one_row_a_task_and_no_overrides(tmp_path: Path):
    """Catches a task in two rows, a row of another update ratio, and the precision with fewer methods or runs."""
    runs = tmp_path / "runs"
    for algo, seeds in (("dsac_t", (100.0, 300.0)), ("sac", (50.0,))):
        made_seeds(runs, algo, seeds, "experiment=recipe", "precision=bfloat16")
        made_seeds(runs, algo, seeds[:1], "experiment=recipe")
        made_seeds(runs, algo, (900.0, 900.0, 900.0), "experiment=recipe", *ONE_TO_ONE)
    made_seeds(runs, "ppo", (7.0,))
    made_seeds(runs, "ppo", (8.0,), env="Ant")
    assert contests.headline(committed(tmp_path).tasks) == [
        ["Hopper-v5", "3,000 env steps", "200.0 [100.0, 300.0] (2)", "-", "50.0 (1)", "-", "7.00 (1)", "bfloat16"],
    ]


def test_ppo_is_not_asked_half_way(tmp_path: Path):
    """Catches PPO judged at env steps where its learning rate had not fallen yet; by updates it may be."""
    made_run(tmp_path / "runs", "ppo", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    made_run(tmp_path / "runs", "ppo", (1.0, 2.0, 30.0))
    made_run(tmp_path / "runs", "dsac_t", (10.0, 20.0, 90.0))
    found = committed(tmp_path)
    assert contests.at_equal_env_steps(found.tasks)[0][1:] == ["3,000 env steps", "-", "90.0 (1)", "-", "-", "30.0 (1)"]
    told = {(row[1], row[2]): row[4] for row in page.differences(found)}
    assert told == {
        ("DSAC-T published minus PPO total_env_steps=3000", "3,000 env steps"): "90.0 and 30.0",
        ("DSAC-T published minus PPO total_env_steps=6000", "150 updates"): "90.0 and 3.00",
    }


def test_methods_meet_where_the_slowest_has_come(tmp_path: Path):
    """Catches a row that compares ends of unlike length, updates taken for env steps, and a time without its rate."""
    runs = tmp_path / "runs"
    made_run(runs, "dsac_t", (10.0, 20.0, 90.0))
    made_run(runs, "sac", (1.0, 2.0, 30.0, 400.0))
    found = committed(tmp_path)
    (row,) = contests.side_by_side(found)
    assert row[1:] == ["3,000 env steps, 150 updates", "-", "90.0 (1)", "-", "30.0 (1)", "-"]
    made_run(runs, "ppo", (5.0, 6.0, 7.0, 8.0))
    found = committed(tmp_path)
    steps, updates = (row[1:] for row in contests.side_by_side(found))
    assert steps == ["3,000 env steps", "-", "90.0 (1)", "-", "30.0 (1)", "-"]  # PPO would be half way there
    assert updates == ["150 updates", "-", "90.0 (1)", "-", "30.0 (1)", "7.00 (1)"]
    rates = [
        entries.Rate("Hopper-v5", label, steps, steps // 20, 30.0, "", "")
        for label, steps in (("DSAC-T published", 3000), ("SAC published", 2000), ("PPO", 5000))
    ]
    *_, row = contests.side_by_side(dataclasses.replace(found, rates=rates))
    assert row[1:] == ["24.0 s", "-", "20.0 (1)", "-", "-", "8.00 (1)"]  # SAC's last by then lies too far back


def test_a_difference_has_one_cause(tmp_path: Path):
    """Catches a difference of two settings at once, where each stands alone, too, and PPO beside a variant."""
    runs, raw, slow = tmp_path / "runs", "algo.observation_normalization=true", "algo.tau=0.001"
    for number, words in enumerate([(), (raw,), (raw, slow), ("precision=bfloat16", raw), ("precision=bfloat16",)]):
        made_run(runs, "dsac_t", (1.0, 2.0, 10.0 + number), *words)
    made_run(runs, "sac", (1.0, 2.0, 30.0), "precision=bfloat16")
    made_run(runs, "ppo", (1.0, 2.0, 40.0))
    told = {row[4] for row in page.differences(committed(tmp_path))}
    assert told == {
        "10.0 and 11.0", "11.0 and 12.0", "10.0 and 14.0", "14.0 and 13.0", "11.0 and 13.0",
        "14.0 and 30.0", "10.0 and 40.0", "14.0 and 40.0",
    }  # fmt: skip


def test_equal_time_follows_the_rates(held: entries.Found):
    """Catches a time that is not env steps times the rate, or that of another method."""
    rates = {rate.label: rate for rate in held.rates if rate.env == "Humanoid-v5"}
    (row,) = [row for row in page.differences(held) if row[1:3] == ["DSAC-T first recipe minus PPO", "7 min 00 s"]]
    rate = rates["DSAC-T first recipe"]
    steps = 420 / rate.seconds * rate.env_steps
    with (HELD / "humanoid" / "evaluations.csv").open() as file:
        ours = [line for line in csv.DictReader(file) if line["run"] in "012" and float(line["env_steps"]) <= steps]
    mean = np.mean([[float(line["returns"]) for line in ours if line["run"] == run][-1] for run in "012"])
    assert row[4].split(" and ")[0] == f"{mean:,.0f}"


def test_a_rate_without_runs_is_refused(tmp_path: Path):
    """Catches a rate under a name that a group no longer has, which would fall out of the page in silence."""
    made_run(tmp_path / "runs")
    committed(tmp_path)
    rate = {"env": "Hopper-v5", "label": "DSAC-T", "env_steps": 1, "updates": 1, "seconds": 1, "conditions": ""}
    (tmp_path / "docs" / entries.RATES).write_text(json.dumps({"rates": [{**rate, "source": "x"}]}))
    with pytest.raises(ValueError, match="no runs of Hopper-v5 DSAC-T"):
        entries.gathered(tmp_path / "docs")


def repeated(found: list[entries.Entry]) -> None:
    """Assert that the commands of a task's page make its runs: as many, with equal settings."""
    planned = [
        flat(to_tree(one.config))
        for command in entries.commands(found)
        for one in prepare(shlex.split(command.removeprefix("python -m dsac.sweep ")))[1]
    ]
    runs = [run for one in found for run in one.group.runs]
    assert len(planned) == len(runs)

    def made(run: results.Run) -> tuple[str, int, int]:
        return json.dumps(shared(run)), run.seed, run.settings["total_env_steps"]

    typed = [made(results.Run("", None, 0, settings, {}, {}, *[np.zeros(1)] * 4)) for settings in planned]
    assert sorted(typed) == sorted(map(made, runs))


def test_the_commands_make_the_runs_that_are_held(held: entries.Found):
    """Catches a command with a setting left out, also once the recipe or a default has moved since the runs."""
    for found in held.tasks.values():
        repeated(found)


def test_the_commands_make_runs_with_words_of_their_own(tmp_path: Path):
    """Catches lists, null, seeds of learners and budgets that are lost between runs.json and the shell."""
    made_run(tmp_path / "runs", "dsac_t", [(1.0, 2.0), (3.0, 4.0)], seed=5)
    made_run(tmp_path / "runs", "dsac_t", (1.0, 2.0, 3.0), "algo.hidden_sizes=[32,32]", "algo.huber_delta=null")
    made_run(tmp_path / "runs", "sac", (1.0, 2.0, 3.0), *ONE_TO_ONE, seed=2)
    made_run(tmp_path / "runs", "sac", (1.0, 2.0), *ONE_TO_ONE, seed=7)
    made_run(tmp_path / "runs", "td3", (1.0, 2.0, 3.0), "experiment=recipe", "precision=bfloat16")
    found = committed(tmp_path).tasks["Hopper-v5"]
    repeated(found)
    assert any("algo=dsac_t seeds=5..6 " in command for command in entries.commands(found))


def test_runs_from_before_a_setting_are_not_parted_from_later_ones(tmp_path: Path):
    """Catches two groups of one recipe because the later config says collect=local, which was all there was."""
    for seed in (0, 1):
        made_run(tmp_path, "dsac_t", seed=seed)
    first, second = results.read([tmp_path])[0]
    for key in ("collect", "collectors", "stall_seconds", "ray.block_steps"):
        del first.settings[key]
    ((group,), _) = grouped([first, second])
    assert len(group.runs) == 2
    second.settings["collect"] = "ray"
    assert len(grouped([first, second])[0]) == 2


def test_a_page_without_its_marks_is_refused():
    """Catches a block that silently stays what it was."""
    with pytest.raises(ValueError, match="headline"):
        page.rewritten("no marks", {"headline": "| table |"})
