"""A run writes and removes in its own folder only, whatever links lie there, and makes no folder again that is gone."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from disk import Disk, full
from said import assert_says
from small_runs import only_run, small_config, small_words

from dsac.cli import exit_codes
from dsac.errors import FileError
from dsac.persistence import checkpoint, replay_segments
from dsac.persistence.lock import RunLock, held_elsewhere
from dsac.schema import files
from dsac.sweep import find_runs, ray_launcher, runner, worker
from dsac.sweep.plan import Planned
from dsac.train import main, start


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of someone's own, with a folder in it."""
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    for name in ("letter", "inner/photo", "000000000000.safetensors", "step-000000000001"):
        (tmp_path / "outside" / name).write_text(name)
    return tmp_path / "outside"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder and what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


LINKS_TO_FILES = (
    "lock", "stacks.log", ".config.yaml.partial", ".run.json.partial", "learner-0/metrics.csv",
    "checkpoints/segments/000000000001.safetensors",
)  # fmt: skip
LINKS_TO_FOLDERS = (
    "learner-0/last", "learner-0/.last.partial", "learner-0/.last.replaced", "learner-0/.best.partial",
    "checkpoints/.step-000000000296.partial", "checkpoints/.step-000000000001",
    "checkpoints/.step-000000000136.removed", "checkpoints/.step-000000000007.replaced",
    "checkpoints/step-000000000500", "checkpoints/damaged-step-000000000600",
)  # fmt: skip


def test_links_in_a_run_folder_are_unlinked_and_never_walked_through(run: Path, outside: Path):
    """Catches a link that makes a resumed run empty, overwrite or cut what lies elsewhere."""
    before = contents(outside)
    shutil.copytree(run / "checkpoints" / "step-000000000136", run / "checkpoints" / "step-000000000600")  # damaged
    for names, target in ((LINKS_TO_FILES, outside / "letter"), (LINKS_TO_FOLDERS, outside)):
        for name in names:
            files.remove(run / name)
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).symlink_to(target)
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert contents(outside) == before
    assert checkpoint.newest(run / "checkpoints")[1]["step"] == 296
    standing = [path.name for path in (run / "checkpoints").rglob("*") if path.is_symlink()]
    assert standing == ["step-000000000500"]  # which is no checkpoint, and nothing of ours


@pytest.mark.parametrize("name", ["checkpoints", "learner-0", "snapshots", "checkpoints/segments"])
def test_a_folder_of_a_run_that_is_a_link_is_refused(
    run: Path, outside: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    """Catches a folder behind a link that is written to, and pruned of all that a run does not know."""
    if name in ("checkpoints", "learner-0"):
        shutil.copytree(run / name, outside / name)
    files.remove(run / name)
    (run / name).symlink_to(outside / name if name in ("checkpoints", "learner-0") else outside)
    before = contents(outside)
    assert main([f"resume={run}"]) == exit_codes.STORAGE
    assert f"error: {run / name}: a link" in capsys.readouterr().err
    assert contents(outside) == before


def test_a_removal_and_a_prune_stay_in_their_folder(tmp_path: Path, outside: Path):
    """Catches a removal that follows a link, at its root or below, and one that stumbles over what is no folder."""
    before, odd = contents(outside), tmp_path / "odd"
    (odd / "deep" / "deeper").mkdir(parents=True)
    for place in (odd / "a", odd / "deep" / "b", odd / "deep" / "deeper" / "c", tmp_path / "link"):
        place.symlink_to(outside)
    (tmp_path / "file").touch()
    for name in ("odd", "link", "file", "none"):
        files.remove(tmp_path / name)
    (tmp_path / "segments").symlink_to(outside)
    replay_segments.prune(tmp_path / "segments", set())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "segments"]
    assert contents(outside) == before


def test_a_pipe_where_a_file_is_appended_to_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches an open that waits for a reader, and a lock whose holder's name has no end."""
    os.mkfifo(tmp_path / "lock")
    lock = RunLock(tmp_path)
    assert_says(capsys.readouterr().err, "lock", "no plain file", "removed")
    assert (tmp_path / "lock").is_file()
    lock.close()


def by_a_process(run: Planned) -> None:
    """Start a run of a sweep on this machine, and wait for its end."""
    handle = runner.Processes(1).start(run)
    while handle.poll() is None:
        time.sleep(0.05)


def by_ray(run: Planned) -> None:
    """Carry out a run of a sweep as Ray's worker does."""
    ray_launcher.supervise([*run.overrides], str(run.folder), str(Path.cwd()), "")


@pytest.mark.parametrize("carry_out", [by_a_process, by_ray])
def test_links_in_a_sweeps_folder_are_not_followed(
    carry_out: Any, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
):
    """Catches a log, a lock or a status that is written into what a link points at, and a status read through one."""
    for module in (runner, ray_launcher):
        monkeypatch.setattr(module, "worker_command", lambda *_: [sys.executable, "-c", "print('error: new')"])
    run, before, interrupt = Planned(small_config(tmp_path / "runs"), ()), contents(outside), signal.getsignal(2)
    run.folder.mkdir(parents=True)
    for name in ("log.txt", "lock", "status.json", ".status.json.partial"):
        (run.folder / name).symlink_to(outside / "letter")
    assert not held_elsewhere(run.folder)
    (outside / "letter").write_text('{"env_steps": 7}')
    assert find_runs.read_status(run.folder) == {}
    (outside / "letter").write_text("letter")
    try:
        carry_out(run)
    finally:
        signal.signal(2, interrupt)
    RunLock(run.folder).close()
    worker.Reporter(run.folder / "status.json")
    assert contents(outside) == before
    assert (run.folder / "log.txt").read_text() == "error: new\n"
    assert runner.error_line(run.folder / "log.txt", 0) == "error: new"
    assert sorted(path.name for path in run.folder.iterdir()) == ["lock", "log.txt", "status.json"]
    assert not [path for path in run.folder.iterdir() if path.is_symlink()]


def test_a_sweeps_folder_that_is_a_link_is_refused(tmp_path: Path, outside: Path):
    """Catches a run of a sweep that is carried out in a folder of someone else."""
    run, before = Planned(small_config(tmp_path / "runs"), ()), contents(outside)
    run.folder.parent.mkdir(parents=True)
    run.folder.symlink_to(outside)
    with pytest.raises(FileError, match="a link or a file"):
        runner.Processes(1).start(run)
    assert contents(outside) == before


def test_links_in_a_studys_folder_are_not_followed(tmp_path: Path, outside: Path):
    """Catches a journal that is cut or written where a link points, and a report, a figure or a recipe in its place."""
    pytest.importorskip("optuna", reason="needs the extra tune")
    from dsac.tune import figure, recipe, report
    from dsac.tune.search_space import Range
    from dsac.tune.study import Study

    folder, before = tmp_path / "tune" / "x", contents(outside)
    space: Any = {"algo.gamma": Range(0.9, 0.99, None, False, False)}
    decides = {"settings": {}, "space": {}, "seeds": [0], "sampler": "random", "pruner": "none"}
    asked = (folder, space, "random", "none", {"decides": decides, "words": [], "command": ""})
    folder.mkdir(parents=True)
    names = ("lock", "journal.log", "journal.log.lock", ".study.json.partial", "best.yaml", "report.md", "trials.csv")
    for name in (*names, "tune.png"):
        (folder / name).symlink_to(outside / "letter")
    study = Study(*asked)
    study.complete(study.ask(), 1.0, [1.0])
    found = report.Findings("x", space, study.trials(), {}, ())
    report.write(folder, found)
    figure.draw(found.trials, space, folder)
    recipe.write(folder, "seed: 1\n")
    study.close()
    assert contents(outside) == before
    assert not [path for path in folder.iterdir() if path.is_symlink()]
    (folder / "study.json").unlink()
    (folder / "study.json").symlink_to(outside / "letter")
    with pytest.raises(FileError, match=r"study\.json: a link"):
        Study(*asked)
    assert contents(outside) == before


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_a_run_folder_that_goes_ends_the_run_and_is_not_made_again(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
):
    """Catches a traceback, hours of training that cannot be saved, and a stub of a folder that looks like a run."""

    def go(trainer: Any) -> None:
        if trainer.env_steps >= 100 and list(tmp_path.glob("runs/*/*/*")):
            if how == "deleted":
                shutil.rmtree(only_run(tmp_path / "runs"))
            else:
                only_run(tmp_path / "runs").rename(tmp_path / "elsewhere")

    words = small_words(tmp_path / "runs")
    assert exit_codes.with_exit_code(lambda: start(words, [go]).exit_code) == exit_codes.STORAGE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "warning", "Trace"))]
    assert "is gone" in line
    assert "resume=<its new place>" in line
    assert not list(tmp_path.glob("runs/*/*/*"))
    if how == "renamed":
        assert main([f"resume={tmp_path / 'elsewhere'}"]) == exit_codes.FINISHED


def test_a_disk_that_is_full_at_a_resume_says_what_is_safe_and_what_to_do(
    run: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches "No space left on device" alone, whichever file of the start meets it first."""
    for part in ("config.yaml", "run.json", "metrics.csv", "events"):
        with Disk(run) as disk:
            disk.before = lambda call, part=part: full(call) if "create" in call and part in call else None
            assert main([f"resume={run}"]) == exit_codes.STORAGE
        said = capsys.readouterr().err
        assert "No space left on device" in said
        assert_says(said, "MB are free", "make room", "step 170 is safe", f"resume={run}")


def test_a_curve_goes_on_where_an_older_events_file_was_removed(run: Path):
    """Catches a number that follows from the count of files: the next one is taken, and the run cannot be resumed."""
    folder = run / "learner-0"
    (folder / "events.out.tfevents.000000").rename(folder / "events.out.tfevents.000007")
    (folder / "events.out.tfevents.1700000000.host.1.0").touch()
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert (folder / "events.out.tfevents.000008").stat().st_size > 0
