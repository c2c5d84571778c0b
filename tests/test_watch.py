"""python -m dsac.watch: every run below a folder as it stands, read where it changed, whatever lies there."""

from __future__ import annotations

import io
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_runs import end_with, made_run
from rich.console import Console

from dsac.cli import exit_codes
from dsac.persistence.lock import RunLock
from dsac.watch import main, run_state, view
from dsac.watch.folder import Folder
from dsac.watch.run_state import RunState
from envs.system import LOCKS

OLD = 1_000_000_000  # a time at which nothing here was running


def aged(run: Path) -> Path:
    """The run, its files last written long ago."""
    for path in run.rglob("*"):
        os.utime(path, (OLD, OLD))
    return run


def states(root: Path) -> dict[str, RunState]:
    return {Path(run.run).name: run for run in Folder(root).look()}


def append(run: Path, *rows: str) -> None:
    with (run / "learner-0" / "metrics.csv").open("a") as file:
        file.write("\n".join([*rows, ""]) if rows[-1].count(",") == 4 else "\n".join(rows))


@pytest.mark.parametrize(
    ("code", "state", "why"),
    [
        (0, "finished", ""),
        (75, "stopped", "resumable"),
        (130, "stopped", "interrupted"),
        (4, "failed", "finite"),
        (3, "failed", "environment"),
        (None, "failed", "defect"),
        (99, "failed", "99"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, code: int | None, state: str, why: str):
    """Catches a failure that looks like a stop, and a code without a word."""
    end_with(made_run(tmp_path), code, 3000)
    (run,) = Folder(tmp_path).look()
    assert (run.state, run.score, run.env_steps) == (state, 100.0, 3000)
    assert why in run.why


def test_a_run_that_nobody_ended_is_in_training_or_was_killed(tmp_path: Path):
    """Catches a killed run that trains for ever, and a silent one (a long evaluation) that is given up."""
    run = made_run(tmp_path, "sac", (1.0, 2.0), "total_env_steps=8000")
    (fresh,) = Folder(tmp_path).look()
    assert (fresh.state, fresh.seconds_left) == ("training", pytest.approx(60.0))
    assert fresh.rates == {"env_steps": 100.0}
    (killed,) = Folder(aged(tmp_path)).look()
    assert (killed.state, killed.seconds_left, killed.rates) == ("stopped", None, None)
    assert "killed" in killed.why
    if not LOCKS.exists():
        return
    with closing(RunLock(run)):
        aged(run)
        assert states(tmp_path)[run.name].state == "training"
    assert states(aged(tmp_path))[run.name].state == "stopped"


def test_learners_are_taken_together(tmp_path: Path):
    """Catches the first learner's score for that of all, and a run called as far as its fastest learner."""
    run = made_run(tmp_path, "sac", ((1.0, 3.0), (2.0, 6.0)))
    (found,) = Folder(tmp_path).look()
    assert (found.curve, found.score) == ((1.5, 4.5), 4.5)
    (run / "learner-1" / "metrics.csv").write_text("env_steps,updates,wall_time,tag,value\n")
    (found,) = Folder(tmp_path).look()
    assert (found.env_steps, found.score) == (0, None)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files of each name were opened."""
    counts: Counter[str] = Counter()
    for module, name in ((run_state, "plain_file"), (run_state, "settings_of"), (run_state, "read_json")):
        function = getattr(module, name)

        def counting(path: Path, *more: Any, function: Any = function, **others: Any) -> Any:
            counts[path.name if path.suffix else "config.yaml"] += 1
            return function(path, *more, **others)

        monkeypatch.setattr(module, name, counting)
    return counts


def test_only_what_changed_is_read(tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch):
    """Catches a look that reads 2,000 logs every two seconds, or a long one from its beginning."""
    runs = [made_run(tmp_path, "sac", (1.0, 2.0), seed=seed) for seed in range(5)]
    folder = Folder(tmp_path)
    folder.look()
    assert opened == {"config.yaml": 5, "run.json": 5, "metrics.csv": 5}
    folder.look()
    assert opened.total() == 15
    append(runs[3], "3000,9,30.00,eval/return,7.5", "3500,9,35.00,train/q,1.0", "4000,9,40.0")
    read: list[int] = []
    numbers = run_state.numbers
    monkeypatch.setattr(run_state, "numbers", lambda block, *more: read.append(len(block)) or numbers(block, *more))
    found = {run.seed: run for run in folder.look()}[3]
    assert (found.curve, found.env_steps) == ((1.0, 2.0, 7.5), 3500)  # the last row is being written
    assert opened.total() == 16
    assert sum(read) < 100
    end_with(runs[3], 0, 3500)
    assert {run.seed: run.state for run in folder.look()}[3] == "finished"
    assert opened.total() == 17
    append(runs[3], "0,eval/return,8.5\n")
    assert {run.seed: run.score for run in folder.look()}[3] == 8.5


def test_a_log_that_was_cut_back_is_read_anew(tmp_path: Path):
    """Catches a curve that keeps what a resume took back: a run goes on from its last checkpoint."""
    run = made_run(tmp_path, "sac", (1.0, 2.0, 3.0, 4.0))
    folder = Folder(tmp_path)
    folder.look()
    path = run / "learner-0" / "metrics.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:7]) + "\n")
    assert folder.look()[0].curve == (1.0, 2.0)
    append(run, *(f"{3000 + index},9,9.00,eval/return,{index}.0" for index in range(20)))
    folder.look()
    path.write_text(
        "\n".join(rows[:7]) + "\n" + "".join(f"2500,9,9.00,eval/return,{index}.0\n" for index in range(100, 140))
    )
    assert folder.look()[0].curve == (1.0, 2.0, *range(100, 140))


def test_of_a_long_log_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a log of a gigabyte in memory, and half a row that is taken for a row."""
    made_run(tmp_path, "sac", [float(index) for index in range(1000)])
    monkeypatch.setattr(run_state, "MOST_READ", 1000)
    (run,) = Folder(tmp_path).look()
    assert (run.score, run.env_steps) == (999.0, 1_000_000)
    assert 2 < len(run.curve) < 20
    monkeypatch.setattr(run_state, "MOST_READ", 1 << 20)
    (run,) = Folder(tmp_path).look()
    assert len(run.curve) <= run_state.MOST_POINTS
    assert run.score == 999.0


def damaged(root: Path) -> list[Path]:
    """Runs that are odd in one way each."""
    runs = [made_run(root, "sac", (1.0, 2.0), seed=seed) for seed in range(8)]
    (runs[0] / "config.yaml").write_text("env: [")
    (runs[1] / "run.json").write_text('{"sessions": [{"ended": 5}]}')
    append(runs[2], "9000,1,1.0,eval/return,nan")
    (runs[3] / "learner-0" / "metrics.csv").write_bytes(b"x" * (1 << 17))
    config = runs[4] / "config.yaml"
    config.write_text(config.read_text().replace("learners: 1", "learners: 1000000000"))
    (runs[5] / "config.yaml").unlink()
    (runs[5] / "config.yaml").symlink_to("/etc/passwd")
    metrics = runs[6] / "learner-0" / "metrics.csv"
    metrics.unlink()
    os.mkfifo(metrics)
    append(runs[7], f"{'9' * 5000},1,1.0,train/q,1")
    return runs


def test_odd_runs_stop_nothing_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches one damaged run that hides all others, a pipe that is waited for, and a command that writes."""
    damaged(tmp_path)
    made_run(tmp_path / "\x1b[2J[red]odd", "sac", (1.0, 2.0), seed=9)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main([f"runs={tmp_path}", "once=true"]) == exit_codes.FINISHED
    table = capsys.readouterr().out
    assert "\x1b" not in table
    assert r"\x1b[2J[red]odd" in table
    assert len(table.splitlines()) == 1 + 9 + 1
    assert table.count("unreadable") == 7 + 1
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    found = Folder(tmp_path).look()
    assert all(run.why for run in found if run.state == "unreadable")
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=160)
    console.print(view.table(found, 100, view.BARS, 160))
    assert r"\x1b[2J[red]odd" in drawn.getvalue()


def test_a_run_that_was_mended_is_read_again(tmp_path: Path):
    """Catches a run that stays unreadable, or whose other changes were passed over while it was."""
    run = made_run(tmp_path, "sac", (1.0, 2.0))
    folder = Folder(tmp_path)
    whole = (run / "run.json").read_text()
    (run / "run.json").write_text("{")
    assert folder.look()[0].state == "unreadable"
    append(run, "3000,9,30.00,eval/return,7.5")
    assert folder.look()[0].state == "unreadable"
    (run / "run.json").write_text(whole)
    assert folder.look()[0].curve == (1.0, 2.0, 7.5)


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a wrong folder or key that ends in an empty table."""
    for words, said in (
        ([f"runs={tmp_path / 'none'}"], "no such folder"),
        ([f"runs={tmp_path}", "once=true"], "no run"),
        ([f"runs={tmp_path}", "onse=true"], "did you mean once"),
        ([f"runs={tmp_path}", "seconds=0"], "at least 0.1"),
    ):
        assert main(words) == exit_codes.USAGE
        assert said in capsys.readouterr().err


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches --json that a program cannot read."""
    end_with(made_run(tmp_path, seed=3), 0, 3000)
    assert main([f"runs={tmp_path}", "--json"]) == exit_codes.FINISHED
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["state"], run["seed"], run["score"], run["curve"]) == ("finished", 3, 100.0, [0.0, 50.0, 100.0])


def looks(monkeypatch: pytest.MonkeyPatch, between: Sequence[Any]) -> None:
    """Call these functions between two looks of the command, one each time, and then interrupt it."""
    waiting = iter(between)

    def sleep(_: float) -> None:
        function = next(waiting, None)
        if function is None:
            raise KeyboardInterrupt
        function()

    monkeypatch.setattr(time, "sleep", sleep)


def test_without_a_terminal_changes_are_told_in_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Catches a change of state that is never told, a new run that is not seen, and a Ctrl-C that is an error."""
    run = made_run(tmp_path, "sac", (1.0, 2.0), "total_env_steps=8000")
    monkeypatch.setattr("dsac.watch.folder.SEARCH_SECONDS", 0.0)
    looks(monkeypatch, [lambda: end_with(run, 4, 2000), lambda: made_run(tmp_path, "td3", (5.0,))])
    assert main([f"runs={tmp_path}"]) == exit_codes.FINISHED
    lines = capsys.readouterr().out.splitlines()
    assert "env steps 2,000/8,000" in lines[0]
    assert lines[1] == "1 training of 1"
    assert lines[2].startswith("failed  ")
    assert "finite" in lines[2]
    assert lines[3].startswith("training  ")
    assert "td3" in lines[3]


@pytest.mark.parametrize(
    ("values", "bars"), [((), ""), ((3.0, 3.0), "▁▁"), ((0.0, 7.0, 3.0), "▁█▄"), (range(100), "▁▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇██")]
)
def test_a_curve_in_letters(values: Sequence[float], bars: str):
    """Catches a division by zero, a curve upside down, and one that is wider than its column."""
    assert view.sparkline(values, 20, view.BARS) == bars
    assert view.bars_for("ascii") == view.PLAIN_BARS


def test_a_table_is_no_longer_than_the_screen(tmp_path: Path):
    """Catches a thousand rows that scroll away with those in training, which come first."""
    runs = [RunState(str(index), "finished") for index in range(50)]
    grid = view.table([RunState("mine", "training"), *runs], 10, view.BARS, 80)
    assert (grid.row_count, grid.caption) == (10, "and 41 more")
