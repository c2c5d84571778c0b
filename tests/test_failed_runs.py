"""A run that failed counts as a failure: a method does not look better for the seeds that it lost."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_runs import EVERY, end_with, made_run, made_seeds
from said import assert_says

from dsac import compare
from dsac.cli import exit_codes
from dsac.compare import main, results
from dsac.compare.comparison import compare as compared
from dsac.compare.groups import AS_FAR_AS_EACH

BUDGET = "total_env_steps=3000"


def without_evaluation(run: Path) -> Path:
    (run / "learner-0" / "metrics.csv").write_text("env_steps,updates,wall_time,tag,value\n")
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four seeds of DSAC-T; of PPO, which is better where it ends, one diverged early and one before any evaluation."""
    root = tmp_path / "runs"
    made_seeds(root, "dsac_t", [90.0, 100.0, 110.0, 130.0])
    made_seeds(root, "ppo", [140.0, 150.0])
    end_with(made_run(root, "ppo", (5.0, 160.0), BUDGET, seed=2), exit_codes.NUMERICAL, 2500)
    end_with(without_evaluation(made_run(root, "ppo", (1.0,), BUDGET, seed=3)), exit_codes.NUMERICAL, 512)
    return root


def test_a_seed_that_diverged_counts_in_every_number(runs: Path):
    """Catches a mean over the seeds that survived: PPO's would be 145 and it would win each time."""
    found = compared(*results.read([runs])[:1])
    ours, ppo = found.summaries
    assert (ppo.label, ppo.seeds, ppo.failed, ours.failed) == ("PPO", 4, 2, 0)
    assert ppo.final.value == np.mean([140, 150, 0, 0])  # 0 is the lowest return of the task
    assert ppo.best.value == np.mean([140, 150, 0, 0])
    assert ppo.final_iqm.value == np.mean([140, 0])
    (pair,) = found.pairs
    assert (pair.label, pair.probability.value) == ("DSAC-T", 0.5)
    assert ppo.area.value < np.mean([140, 150, 160, 0])
    assert found.curves["Hopper-v5"]["PPO"].mean[-1] == ppo.final.value
    assert found.profiles["PPO"].share[1] == 0.5


def test_a_threshold_that_was_reached_before_a_failure_is_not_reached(runs: Path):
    """Catches a rate of success that counts a policy that was lost."""
    found = compared(results.read([runs])[0], goals="139")
    assert [row.reached for row in found.summaries] == [0, 2]
    assert math.isinf(found.summaries[1].steps_to)
    assert found.summaries[1].seconds == 30.0  # of the runs that came to their end


def test_failures_are_named_in_every_form(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a failure that is only in a footnote, or a table that does not say what it counted as."""
    assert main([f"runs={runs}", f"out={tmp_path}", "curves=false"]) == exit_codes.FINISHED
    screen = capsys.readouterr().out
    for text in (screen, (tmp_path / "tables.md").read_text()):
        assert "4, 2 failed" in text
        assert "lowest return known of the task" in text
        assert_says(text, "PPO: seed 2", "2,500 env steps", "finite")
        assert "PPO: seed 3 failed at 512 env steps" in text
    assert "with 2 of 4 seeds failed" in screen
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert [row["failed"] for row in csv.DictReader(file)] == ["0", "2"]


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        (exit_codes.NUMERICAL, True), (exit_codes.ENVIRONMENT, True), (None, True),
        (exit_codes.RESUMABLE, False), (exit_codes.STORAGE, False), (exit_codes.RESOURCES, False), (130, False),
    ],
)  # fmt: skip
def test_what_counts_as_a_failure(tmp_path: Path, code: int | None, counts: bool):
    """Catches a run that was stopped, or had no disk, held against its method; and a crash held for nobody's."""
    made_seeds(tmp_path / "runs", "sac", [10.0, 20.0])
    end_with(made_run(tmp_path / "runs", "sac", (5.0,), BUDGET, seed=2), code, 1500)
    report = compare(tmp_path / "runs", out=tmp_path, curves=False)
    (row,) = report["scores"]
    assert (row["seeds"], row["failed"]) == ((3, 1) if counts else (2, 0))
    (said,) = [line for line in report["remarks"] if "1,500 env steps" in line or "left out at" in line]
    assert ("failed at" in said) == counts
    assert ("exit" in said) == (code in (exit_codes.STORAGE, exit_codes.RESOURCES, 130))


def test_a_run_still_in_training_is_no_failure(tmp_path: Path):
    """Catches a run that goes on after a failure, or has only begun, held against its method."""
    made_seeds(tmp_path / "runs", "sac", [10.0])
    run = end_with(made_run(tmp_path / "runs", "sac", (5.0,), BUDGET, seed=1), exit_codes.NUMERICAL, 1000)
    path = run / "run.json"
    first = json.loads(path.read_text())["sessions"][0]
    path.write_text(json.dumps({"sessions": [first, {key: first[key] for key in first if key != "ended"}]}))
    (row,) = compare(tmp_path / "runs", out=tmp_path, curves=False)["scores"]
    assert (row["seeds"], row["failed"]) == (1, 0)


def test_a_method_whose_every_seed_failed(tmp_path: Path):
    """Catches costs made up for runs that nobody measured."""
    made_seeds(tmp_path / "runs", "sac", [10.0, 20.0])
    for seed in (0, 1):
        run = without_evaluation(made_run(tmp_path / "runs", "ppo", (1.0,), BUDGET, seed=seed))
        end_with(run, exit_codes.NUMERICAL, 0)
    report = compare(tmp_path / "runs", out=tmp_path, curves=False)
    row = report["scores"][1]
    assert (row["failed"], row["final"]["value"], row["seconds"], row["reached"]) == (2, 0.0, None, 0)
    assert "| PPO | 8 | - | 0.00" in (tmp_path / "tables.md").read_text()
    assert any("failed at 0 env steps" in line for line in report["remarks"])


def test_until_before_the_failure_knows_nothing_of_it(runs: Path):
    """Catches a run that counts as failed where it had not failed yet, and one that does not where it had."""
    found, _ = results.read([runs])
    (_, ppo) = compared(found, until=2 * EVERY).summaries
    assert (ppo.seeds, ppo.failed) == (4, 1)
    assert ppo.final.value == np.mean([70, 75, 160, 0])
    (_, ppo) = compared(found, until=AS_FAR_AS_EACH).summaries
    assert (ppo.failed, ppo.env_steps) == (2, 3000)


def test_a_task_of_failures_alone(tmp_path: Path):
    """Catches a number made of nothing: where no return of a task is known, the failures are named."""
    made_seeds(tmp_path / "runs", "sac", [10.0])
    end_with(without_evaluation(made_run(tmp_path / "runs", "sac", (1.0,), BUDGET, env="Ant")), exit_codes.NUMERICAL, 9)
    report = compare(tmp_path / "runs", out=tmp_path, curves=False)
    assert [row["env"] for row in report["scores"]] == ["Hopper-v5"]
    assert any("failed, its numbers" in line and "no return of the task is known" in line for line in report["remarks"])


def test_a_failure_is_committed_with_its_run(runs: Path, tmp_path: Path):
    """Catches a published folder that forgets the seeds that were lost."""
    before = compare(runs, out=tmp_path / "one", curves=False, commit=tmp_path / "made")
    after = compare(tmp_path / "made", out=tmp_path / "other", curves=False)
    assert before["scores"] == after["scores"]
    assert [line for line in before["remarks"] if "failed at" in line] == [
        line for line in after["remarks"] if "failed at" in line
    ]
