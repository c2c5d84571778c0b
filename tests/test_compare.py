"""The command that compares: right numbers in every form, nothing half done, mistakes named."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run, made_seeds

from dsac import compare
from dsac.cli import exit_codes
from dsac.compare import cells, figures, main, scores
from dsac.compare.commands import commands, differences
from dsac.compare.groups import grouped
from dsac.compare.published import published
from dsac.compare.results import read
from dsac.config import compose, load, to_tree
from dsac.errors import ConfigError
from dsac.evaluation import statistics

ENDS = {"dsac_t": [90.0, 100.0, 110.0, 130.0], "ppo": [40.0, 50.0, 60.0, 95.0]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seeds of two algorithms on two tasks."""
    root = tmp_path_factory.mktemp("runs")
    for algo, ends in ENDS.items():
        made_seeds(root, algo, ends)
        made_seeds(root, algo, [end / 10 for end in ends], env="Ant", seconds=20.0)
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_form_holds_the_same_right_numbers(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a score of another evaluation, a table that contradicts the CSV, a pair told the wrong way round."""
    assert main([f"runs={runs}", f"out={tmp_path}", "threshold=Hopper:55", "--json"]) == exit_codes.FINISHED
    report = json.loads(capsys.readouterr().out)
    found = {(row["env"], row["label"]): row for row in report["scores"]}
    ours = found["Hopper-v5", "DSAC-T"]
    ends = np.array(ENDS["dsac_t"])
    assert ours["seeds"] == 4
    assert ours["env_steps"] == 3000
    assert ours["final"]["value"] == ends.mean() == ours["best"]["value"]
    assert ours["deviation"] == pytest.approx(ends.std(ddof=1))
    assert ours["final_iqm"]["value"] == 105
    assert ours["best_of"] == 1
    assert ours["area"]["value"] == pytest.approx((0 + ends / 2 + ends / 2 + ends).mean() / 4)
    low, high = statistics.bootstrap_interval(statistics.mean, [ends])
    assert (ours["final"]["low"], ours["final"]["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (ours["reached"], ours["steps_to"], ours["seconds_to"]) == (4, 3000, 30)
    assert found["Hopper-v5", "PPO"]["reached"] == 2
    assert ours["rates"] == {"env_steps": 100}
    assert found["Ant-v5", "PPO"]["seconds"] == 60

    (duel,) = [row for row in report["pairs"] if row["env"] == "Hopper-v5"]
    assert (duel["label"], duel["other"], duel["verdict"]) == ("DSAC-T", "PPO", "better")
    assert duel["probability"]["value"] == 15 / 16
    assert duel["difference"]["value"] == pytest.approx(ends.mean() - 61.25)
    assert [row["label"] for row in report["all_tasks"]] == ["DSAC-T", "PPO"]
    assert report["all_tasks"][0]["mean"]["value"] == pytest.approx(((ends - 40) / 90).mean())

    line = next(row for row in rows(tmp_path / "scores.csv") if (row["env"], row["label"]) == ("Hopper-v5", "DSAC-T"))
    assert float(line["final"]) == ends.mean()
    assert float(line["final_low"]) == pytest.approx(low)
    text = (tmp_path / "tables.md").read_text()
    assert f"| DSAC-T | 4 | 3,000 | 107.5 [{low:.1f}, {high:.1f}] | 17.1 |" in text
    assert "| DSAC-T against PPO | 0.94 [" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(name).name for name in report["files"])


def test_the_answer_says_who_and_how_sure(runs: Path, tmp_path: Path):
    """Catches a sentence that claims more than the interval, or speaks of the other method."""
    report = compare(runs, out=tmp_path, curves=False)
    ant, hopper = report["answers"]
    assert hopper[0].startswith("Hopper-v5: DSAC-T ends at 107.5 [")
    assert hopper[1].startswith("Against PPO, at 61.2 [")
    assert "better; its run ends higher with probability 0.94 [" in hopper[1]
    assert "in 30.0 s against 30.0 s" in hopper[1]
    assert ant[0].startswith("Ant-v5")
    (pair, *_) = scores.pairs(grouped(read([runs])[0])[0])
    other = pair.turned()
    assert (other.label, other.other, other.verdict) == ("PPO", "DSAC-T", "worse")
    assert other.probability.low < other.probability.value == 1 - pair.probability.value < other.probability.high
    assert other.difference.low < other.difference.value < other.difference.high < 0


def test_the_best_settings_of_dsac_t_are_spoken_of(tmp_path: Path):
    """Catches an answer about the settings that a user tried and left."""
    for returns, words in (([1.0], ()), ([9.0], ("experiment=recipe",))):
        made_run(tmp_path / "runs", "dsac_t", [0.0, *returns], *words)
    report = compare(tmp_path / "runs", out=tmp_path, curves=False)
    assert report["answers"][0][0].startswith("Hopper-v5: DSAC-T recipe ends at 9.00")


def test_a_longer_run_that_nothing_compares_with_is_not_spoken_of(tmp_path: Path):
    """Catches an answer without a word on the comparison, because one DSAC-T went on alone."""
    made_run(tmp_path / "runs", "dsac_t", [0.0, 3.0])
    made_run(tmp_path / "runs", "dsac_t", [0.0, 3.0, 9.0], "algo.tau=0.01")
    made_run(tmp_path / "runs", "ppo", [0.0, 1.0])
    first, second = compare(tmp_path / "runs", out=tmp_path, curves=False)["answers"][0]
    assert first.startswith("Hopper-v5: DSAC-T ends at 3.00")
    assert second.startswith("Against PPO, at 1.00")


def test_of_many_groups_the_best_are_spoken_of(tmp_path: Path):
    """Catches a page of pairs that nobody asked for, sentences about the worst few, and pairs that are lost."""
    made_run(tmp_path / "runs", "dsac_t", [0.0, 4.5])
    for number in range(9):
        made_run(tmp_path / "runs", "sac", [0.0, float(number)], f"algo.tau=0.00{number + 1}")
    report = compare(tmp_path / "runs", out=tmp_path, report=True, films=False, curves=False)
    (answer,) = report["answers"]
    assert [line.split(":")[0] for line in answer[1:-1]] == [
        f"Against SAC tau=0.00{9 - number}, at {8 - number}.00" for number in range(4)
    ] + ["Against SAC, at 4.00"]
    assert answer[-1] == "4 more: Hopper-v5, who beats whom."
    assert len(report["pairs"]) == 45
    text = (tmp_path / "tables.md").read_text()
    assert text.count("| DSAC-T against") == 9
    assert "| SAC tau=0.001 against" not in text
    assert "All 45 pairs are in pairs.csv." in text
    assert "10 runs in 10 groups" in (tmp_path / "report.html").read_text()


def test_many_settings_of_one_algorithm_can_be_told_apart(tmp_path: Path):
    """Catches two lines of a picture that look alike; beside another algorithm each keeps its colour."""
    for number in range(9):
        made_run(tmp_path, "sac", (0.0, 1.0), f"algo.tau=0.00{number + 1}")
    alone = figures.styles(grouped(read([tmp_path])[0])[0])
    assert len(set(alone.values())) == len(alone) == 9
    made_run(tmp_path, "ppo", (0.0, 1.0))
    both = figures.styles(grouped(read([tmp_path])[0])[0])
    assert {colour for label, (colour, _) in both.items() if label != "PPO"} == {figures.COLOURS["sac"]}


def test_three_seeds_do_not_tell(tmp_path: Path):
    """Catches a verdict from so few seeds that chance gives it one time in ten."""
    made_seeds(tmp_path / "runs", "sac", [10.0, 11.0, 12.0])
    made_seeds(tmp_path / "runs", "ppo", [1.0, 2.0, 3.0])
    report = compare(tmp_path / "runs", out=tmp_path, curves=False)
    assert report["pairs"][0]["verdict"] == "too few seeds to tell"
    assert report["answers"][0][0].startswith("Hopper-v5: SAC")  # without DSAC-T the best is spoken of


def test_one_seed_has_scores_without_intervals(tmp_path: Path):
    """Catches a NaN in the JSON, and an interval where one seed knows none."""
    made_run(tmp_path / "runs", "sac")
    report = compare(tmp_path / "runs", out=tmp_path, report=True, films=False)
    assert report["scores"][0]["final"] == {"value": 100.0, "low": None, "high": None}
    assert "NaN" not in json.dumps(report)
    assert "| SAC | 1 | 3,000 | 100.0 | - |" in (tmp_path / "tables.md").read_text()


def test_what_was_published_stands_beside_with_its_version(runs: Path, tmp_path: Path):
    """Catches a published number that passes for one of ours, or one of another task."""
    compare(runs, out=tmp_path, curves=False, reference="paper")
    text = (tmp_path / "tables.md").read_text()
    assert "| DSAC-T (paper, Hopper-v3) | 5 | 30,000,000 | - | - | - | 3,660 | 533.0 | ? |" in text
    assert "v5 restores the contact cost" in text
    assert "second hand" in text
    assert {row.env for row in published("Humanoid-v5")} == {"Humanoid-v3"}
    assert len(published("Humanoid-v5")) == 6
    assert published("InvertedPendulum-v5") == []


def test_committed_results_give_the_same_files(runs: Path, tmp_path: Path):
    """Catches tables and figures that cannot be made again from what is in the repository, or differ each time."""
    pytest.importorskip("matplotlib")
    compare(runs, out=tmp_path / "first", commit=tmp_path / "made")
    compare(tmp_path / "made", out=tmp_path / "second")
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "second")
    )
    assert first == second
    assert {"curves.png", "curves.svg", "profile.png", "profile.svg"} <= first.keys()
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"evaluations.csv", "runs.json"}


def test_axes_and_goals(runs: Path):
    """Catches an area or a curve on another axis than asked for, and a goal given to another task."""
    groups, _ = grouped(read([runs])[0])
    one = groups[0]
    assert scores.curve(one, "updates").x.tolist() == [50, 100, 150]
    assert scores.curve(one, "wall_time").x.tolist() == [20, 40, 60]
    assert scores.thresholds("7", groups) == {"Ant-v5": 7, "Hopper-v5": 7}
    goals = scores.thresholds("Ant:3", groups)
    assert goals["Ant-v5"] == 3
    assert goals["Hopper-v5"] == pytest.approx(0.9 * 107.5)  # from 0 at the first evaluation to the best group
    assert scores.median([3.0, float("inf"), 1.0]) == 3
    assert scores.median([3.0, float("inf")]) == float("inf")
    with pytest.raises(ConfigError, match="threshold=Humanoid:3"):
        scores.thresholds("Humanoid:3", groups)


def test_curves_are_drawn_as_computed(runs: Path, tmp_path: Path):
    """Catches a picture that lacks a task or a label, is wider than a column, or overlaps its labels."""
    pytest.importorskip("matplotlib")
    from PIL import Image

    compare(runs, out=tmp_path)
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] == round(300 * figures.COLUMN)
        assert np.asarray(image.convert("L")).std() > 10
    words = "".join(ET.parse(tmp_path / "curves.svg").getroot().itertext())
    for word in ("Hopper-v5", "Ant-v5", "DSAC-T", "PPO", "env steps", "return"):
        assert word in words
    places = figures.apart([10.0, 11.0, 50.0, 99.0], [8.0, 8.0, 8.0, 8.0], 100.0)
    assert places == pytest.approx([6.5, 14.5, 50.0, 96.0])
    assert figures.wrapped("DSAC-T critic_loss=release_2025") == "DSAC-T\ncritic_loss=\nrelease_2025"


def test_odd_runs_are_drawn_too(tmp_path: Path):
    """Catches a picture that fails for one evaluation, equal returns, clocks that never overlap, a name with a $."""
    pytest.importorskip("matplotlib")
    made_run(tmp_path / "runs", "sac", (5.0,))
    made_seeds(tmp_path / "runs", "ppo", [7.0, 7.0], env="Ant")
    made_run(tmp_path / "runs", "td3", (1.0, 2.0), seconds=1.0)
    made_run(tmp_path / "runs", "td3", (1.0, 2.0), seconds=100.0, seed=1)
    config = made_run(tmp_path / "runs", "ddpg", (1.0, 2.0)) / "config.yaml"
    config.write_text(config.read_text().replace("activation: gelu", f"activation: {'$x_' * 20}"))
    report = compare(tmp_path / "runs", out=tmp_path, by="wall_time", report=True, films=False)
    assert len(report["scores"]) == 4
    assert len(report["remarks"]) == 1  # SAC has another budget
    assert ET.parse(tmp_path / "curves.svg").getroot().tag.endswith("svg")


def test_commands_make_the_same_config_again(tmp_path: Path):
    """Catches a command that leaves out a setting, or sets one that the trainer does not take."""
    words = ["experiment=recipe", "algo.hidden_sizes=[64,64]", "algo.gamma=0.9", "num_envs=3"]
    for seed in (1, 4):
        made_run(tmp_path, "dsac_t", (1.0, 2.0), *words, seed=seed)
    (group,), _ = grouped(read([tmp_path])[0])
    (command,) = commands(group)
    assert command.startswith("for seed in 1 4; do python -m dsac.train env=Hopper algo=dsac_t experiment=recipe ")
    words = command.split("dsac.train ")[1].removesuffix(" seed=$seed; done").replace("'", "").split()
    tree = to_tree(load(compose([*words, "seed=1"])))
    run = group.runs[0]
    made = {**tree, "threads": None, "device": "auto"}  # as the run's config has them
    from dsac.schema.validate import flat

    assert flat(made) == {**run.settings, "device": "auto"}
    assert len(words) < 15


def test_differences_show_what_sets_groups_apart(tmp_path: Path):
    """Catches a table of settings that leaves one out, or lists what is the same."""
    made_run(tmp_path, "sac")
    made_run(tmp_path, "sac", (0.0, 50.0, 100.0), "algo.gamma=0.98")
    groups, _ = grouped(read([tmp_path])[0])
    assert differences(groups) == (["SAC", "SAC gamma=0.98"], [["algo.gamma", "0.99", "0.98"]])


def test_numbers_are_said_shortly():
    """Catches digits that nobody reads, and a bar in a cell that breaks a table of Markdown."""
    numbers = [12345.6, 83.44, -0.271, -0.001, float("inf")]
    assert [cells.number(value) for value in numbers] == ["12,346", "83.4", "-0.27", "0.00", "-"]
    assert [cells.duration(s) for s in (4.12, 200, 7500, float("inf"))] == ["4.1 s", "3 min 20 s", "2 h 05 min", "-"]
    table = cells.Table("", "x", ["", "a|b"], [["1", "2"]])
    assert "a\\|b" in cells.markdown(table)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs=nowhere"], "runs=nowhere: no such folder"),
        (["by=steps"], "runs is missing"),
        (["runs=x", "by=steps"], "by=steps must be one of env_steps, updates, wall_time"),
        (["runs=x", "repport=true"], "unknown key 'repport': did you mean report?"),
        (["runs=x", "--all"], "'--all' is not key=value"),
        (["runs=x", "reference=nature"], "reference=nature must be one of none, paper"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str, tmp_path: Path, monkeypatch, capsys):
    """Catches a traceback, an exit code of success, files made before the words are checked."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == exit_codes.USAGE
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_there_are_tables_and_a_hint(runs: Path, tmp_path: Path, monkeypatch, capsys):
    """Catches a comparison that fails for want of matplotlib, and a demand for curves that is passed over."""
    monkeypatch.setattr(figures, "installed", lambda: False)
    assert main([f"runs={runs}", f"out={tmp_path}"]) == exit_codes.FINISHED
    out = capsys.readouterr().out
    assert "pip install -e '.[compare]'" in out
    assert out.splitlines()[-1] == f"next: python -m dsac.compare runs={runs} report=true"
    assert (tmp_path / "tables.md").exists()
    assert main([f"runs={runs}", f"out={tmp_path}", "curves=true"]) == exit_codes.USAGE
    assert "pip install -e '.[compare]'" in capsys.readouterr().err


def test_tables_need_no_torch(runs: Path, tmp_path: Path):
    """Catches an import that makes a table wait for seconds."""
    code = (
        "import sys; from dsac.compare import main\n"
        f"assert main(['runs={runs}', 'out={tmp_path}', 'curves=false']) == 0\n"
        "assert not {'torch', 'matplotlib', 'hydra'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
