"""Thousands of runs in a folder: work that grows with their number, not with its square, and memory with neither."""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import made_run, made_seeds, many_runs

from dsac import compare
from dsac.compare import results, scores
from dsac.compare.groups import grouped
from dsac.evaluation import statistics
from dsac.runs import metrics
from dsac.schema import files
from dsac.sweep import command, find_runs
from dsac.sweep.runner import FINISHED_RUN, Sweep


class Slots:
    """A launcher that has nothing to start."""

    def slots(self) -> int:
        return 1

    def start(self, run: Any) -> Any:
        raise AssertionError(run.title)

    def close(self) -> None: ...


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files of each name were opened."""
    counts: Counter[str] = Counter()
    plain_file = files.plain_file

    def counting(path: Path, *arguments: Any, **more: Any) -> Any:
        counts[path.name] += 1
        return plain_file(path, *arguments, **more)

    for module in (files, metrics):
        monkeypatch.setattr(module, "plain_file", counting)
    return counts


def test_a_plan_looks_at_each_folder_once(tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch):
    """Catches a sweep that looks at every folder for every run that it plans: 2,000 times 2,000."""
    looked: list[Path] = []
    identity_of = find_runs.identity_of
    monkeypatch.setattr(find_runs, "identity_of", lambda path, *more: looked.append(path) or identity_of(path, *more))
    words = many_runs(tmp_path, (), settings=3, seeds=8, log_rows=2)
    _, planned = command.prepare([*words, "algo.learning_rate=2e-4"])
    work = Sweep(planned, Slots())
    assert [run.state for run in work.runs] == [FINISHED_RUN] * 8
    assert opened["config.yaml"] == len(looked) == 3 * 8
    assert opened["metrics.csv"] == 8  # of those that are its own
    before = opened["config.yaml"]
    assert find_runs.find(planned[0].config).finished
    assert opened["config.yaml"] == before


def test_a_comparison_reads_each_file_once(tmp_path: Path, opened: Counter[str]):
    """Catches a folder that is walked through, or a config that is parsed, once for each of its learners or groups."""
    many_runs(tmp_path, (), settings=3, seeds=4, log_rows=2)
    assert len(results.read([tmp_path])[0]) == 12
    assert {opened[name] for name in ("config.yaml", "run.json", "metrics.csv")} == {12}


def test_what_is_kept_of_a_run_does_not_grow_with_its_log(tmp_path: Path):
    """Catches a comparison that holds every logged number of every run."""
    kept = []
    for rows in (10, 1000):
        many_runs(tmp_path / str(rows), (), settings=1, seeds=3, log_rows=rows)
        tracemalloc.start()
        runs, _ = results.read([tmp_path / str(rows)])
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert {len(run.returns) for run in runs} == {20}
    assert kept[1] < 2 * kept[0]


def test_intervals_of_many_seeds_take_little_memory(monkeypatch: pytest.MonkeyPatch):
    """Catches gigabytes of resampled scores, and blocks of them that give another interval."""
    scores_ = [np.random.default_rng(1).normal(size=(40, 300)), np.random.default_rng(2).normal(size=(40, 200))]
    tracemalloc.start()
    found = statistics.bootstrap_interval(statistics.mean, scores_, draws=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    monkeypatch.setattr(statistics, "AT_ONCE", 1 << 40)
    assert all(map(np.array_equal, found, statistics.bootstrap_interval(statistics.mean, scores_, draws=1000)))


def test_of_very_many_groups_one_is_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches eighty thousand pairs of four hundred groups, and the wrong one that is left."""
    for index, end in enumerate((1.0, 9.0, 5.0)):
        made_run(tmp_path / "runs", "dsac_t", (0.0, end), f"algo.tau=0.0{index + 1}")
    made_seeds(tmp_path / "runs", "ppo", [3.0], "total_env_steps=2000")
    groups, _ = grouped(results.read([tmp_path / "runs"])[0])
    every = scores.pairs(groups)
    monkeypatch.setattr(scores, "MOST_PAIRED", 2)
    best = "DSAC-T tau=0.02"
    kept = [pair for pair in every if best in (pair.label, pair.other)]
    assert 0 < len(kept) < len(every)
    assert [(pair.label, pair.other) for pair in scores.pairs(groups)] == [(pair.label, pair.other) for pair in kept]
    assert compare(tmp_path / "runs", out=tmp_path, curves=False)["answers"][0][0].startswith(f"Hopper-v5: {best} ")


def test_long_work_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches minutes of silence, and two thousand lines where nobody waits."""
    words = many_runs(tmp_path, (), settings=1, seeds=3, log_rows=2)
    results.read([tmp_path])
    find_runs.find_all([run.config for run in command.prepare(words)[1]])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(results, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(find_runs, "QUIET_SECONDS", 0.0)
    results.read([tmp_path])
    find_runs.find_all([run.config for run in command.prepare(words)[1]])
    said = capsys.readouterr().err
    assert "reading runs 3/3" in said
    assert "looking at runs 3/3" in said


@pytest.mark.parametrize("filling", [0, 3, 5000])
def test_the_last_evaluation_is_found_from_the_end(tmp_path: Path, filling: int):
    """Catches a half-written row that counts, and an evaluation that is missed where blocks meet."""
    path = tmp_path / "metrics.csv"
    assert metrics.last_evaluation(path)[0] == -1
    other = "300,1,1.0,train/loss_of_something,0.123\n"
    head = "env_steps,updates,wall_time,tag,value\n"
    path.write_text(head + other * filling)
    assert metrics.last_evaluation(path)[0] == -1
    path.write_text(
        head + "100,1,1.0,eval/return,5.0\n200,1,1.0,eval/return,7.5\n" + other * filling + "300,1,1.0,eval/return,9"
    )
    assert metrics.last_evaluation(path) == (200, 7.5)
    picked = metrics.picked(path, ["eval/return", "train/nothing"])
    assert picked["eval/return"].tolist() == [[100, 1, 1, 5], [200, 1, 1, 7.5]]
    assert picked["train/nothing"].shape == (0, 4)


COMMANDS = {
    "plan": "from dsac import sweep; from dsac.sweep.runner import Sweep; import sys\n"
    "work = Sweep(sweep.prepare(sys.argv[1:])[1], None)\n"
    "assert {run.state for run in work.runs} == {'finished'}, {run.state for run in work.runs}",
    "compare": "from dsac.compare import main; import sys\n"
    "places = [word for word in sys.argv[1:] if word.startswith('runs=')]\n"
    "assert main([*places, 'out=' + sys.argv[1], 'curves=false']) == 0",
}


@pytest.mark.faults
def test_two_thousand_runs(tmp_path: Path):
    """Catches a plan or a comparison of 2,000 runs that takes minutes or gigabytes: of few groups, and of many."""
    for settings, seeds in ((2, 1000), (400, 5)):
        root = tmp_path / str(settings)
        words = many_runs(root, (), settings, seeds)
        for name, seconds in (("plan", 15), ("compare", 45)):  # of a processor that others use, too
            given = [*words, "algo.learning_rate=1e-4"] if name == "plan" else [str(tmp_path / "out"), *words]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", COMMANDS[name], *given], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert after.ru_utime - before.ru_utime < seconds, name
            assert after.ru_maxrss < 1_000_000, name
