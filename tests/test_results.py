"""Runs read from their folders, and from a folder made to be committed, are the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run
from small_runs import rows, small_config, train_whole

from dsac.compare import results
from dsac.errors import ConfigError
from dsac.runs.run_files import OF_CRITICS


def test_a_run_is_read_as_it_was_trained(tmp_path: Path):
    """Catches another tag taken for the score, learners that share a seed, a version that is not the run's."""
    folder = train_whole(small_config(tmp_path, "sac", "learners=2", "seed=3"))
    (first, second), remarks = results.read([tmp_path])
    assert (first.learner, second.learner) == (0, 1)
    assert (first.seed, second.seed) == (3, 4)
    for run in (first, second):
        scores = [float(row["value"]) for row in rows(folder, run.learner) if row["tag"] == "eval/return"]
        assert run.returns.tolist() == scores
        assert run.env_steps.tolist() == [64, 128, 192, 256]
        assert run.finished
    assert first.env == "InvertedPendulum-v5"
    assert first.algorithm == "sac"
    assert first.facts["versions"]["mujoco"]
    assert first.rates["env_steps"] > 0
    assert remarks == []


def test_a_committed_folder_is_read_back_equal(tmp_path: Path):
    """Catches digits lost on the way, settings of one run given to another, a calibration left behind."""
    made_run(tmp_path / "runs", "dsac_t", [(0.1, 1 / 3, 1e4), (1.0, 2.0, 3.0)], seed=7)
    made_run(tmp_path / "runs", "ppo", (5.0, 6.0), "algo.hidden_sizes=[32,32]", env="Ant")
    before, _ = results.read([tmp_path / "runs"])
    critics = {"env_steps": 3000, "states": 2, "samples": 1} | {key: [1.5, 2.0] for key in OF_CRITICS[:3]}
    before[0] = dataclasses.replace(before[0], calibration=critics)
    results.write_committed(tmp_path / "docs" / "made", before)
    after, _ = results.read([tmp_path / "docs"])
    assert len(after) == len(before) == 3
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.seed, one.learner, one.env) == (other.name, other.seed, other.learner, other.env)
        assert (one.facts, one.rates, one.calibration) == (other.facts, other.rates, other.calibration)
        assert {**one.settings, "runs": None} == {**other.settings, "runs": None}
        for curve in ("env_steps", "updates", "wall_time", "returns"):
            assert np.array_equal(getattr(one, curve), getattr(other, curve))
        assert other.folder is None


def test_a_committed_folder_names_no_folder_of_this_machine(tmp_path: Path):
    """Catches a path, and with it a user's name, that gets into a repository."""
    source = made_run(tmp_path / "home" / "someone" / "runs")
    config = source / "config.yaml"
    config.write_text(config.read_text().replace("init_from: null", f"init_from: {source}"))
    runs, _ = results.read([source])
    results.write_committed(tmp_path / "made", runs)
    texts = "".join(path.read_text() for path in (tmp_path / "made").iterdir())
    assert "someone" not in texts
    assert source.name in texts


def test_a_copy_counts_once_and_a_place_may_be_any_folder(tmp_path: Path):
    """Catches a run that counts twice because it was committed too, or named by its own folder and by its parent."""
    run = made_run(tmp_path / "runs")
    runs, _ = results.read([tmp_path / "runs"])
    results.write_committed(tmp_path / "docs", runs)
    assert len(results.read([tmp_path, run, run.parent])[0]) == 1


def test_a_run_that_was_not_evaluated_yet_is_named(tmp_path: Path):
    """Catches a run that fails the comparison because it has just begun."""
    made_run(tmp_path)
    begun = made_run(tmp_path, "sac")
    (begun / "learner-0" / "metrics.csv").write_text("env_steps,updates,wall_time,tag,value\n")
    runs, remarks = results.read([tmp_path])
    assert [run.algorithm for run in runs] == ["dsac_t"]
    assert remarks == [f"{begun.name}, learner-0: no evaluation yet, left out"]


def test_a_resumed_run_names_both_simulators(tmp_path: Path):
    """Catches a run of two simulator versions that passes for one of the second."""
    path = made_run(tmp_path) / "run.json"
    sessions = json.loads(path.read_text())["sessions"]
    later = {**sessions[0], "versions": {**sessions[0]["versions"], "mujoco": "3.18.0"}}
    path.write_text(json.dumps({"sessions": [*sessions, later]}))
    assert results.read([tmp_path])[0][0].facts["versions"]["mujoco"] == "3.17.0 then 3.18.0"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "learner-0" / "metrics.csv").open("a").write("9,9,9,eval/return,nan\n"), "not a finite"),
        (lambda run: (run / "run.json").write_text("{"), "left out, run.json: no readable JSON"),
        (
            lambda run: (run / "run.json").write_text("{}"),
            "does not say what made the run: sessions is missing",
        ),
        (lambda run: (run / "config.yaml").write_text("env: ["), "config.yaml"),
        (lambda run: (run / "learner-0" / "metrics.csv").unlink(), "no run with an evaluation"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, damage, said: str):
    """Catches a traceback, and a score that is no number averaged into others."""
    damage(made_run(tmp_path))
    with pytest.raises(ConfigError, match=said):
        results.read([tmp_path])


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("runs.json", ('"format": 1', '"format": 2'), "format 2, this version reads 1"),
        ("runs.json", ('"settings": {', '"else": {'), "is no folder of committed evaluations"),
        ("evaluations.csv", ("returns", "score"), "the columns are"),
        ("evaluations.csv", ("50.0", "fifty"), "not a finite number"),
    ],
)
def test_a_damaged_committed_folder_is_named(tmp_path: Path, name: str, change: tuple[str, str], said: str):
    """Catches a table whose columns were moved by hand, and a later format read as this one."""
    made_run(tmp_path / "runs")
    results.write_committed(tmp_path / "made", results.read([tmp_path / "runs"])[0])
    path = tmp_path / "made" / name
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError, match=said):
        results.read([tmp_path / "made"])
