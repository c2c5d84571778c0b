"""A run on a disk that is full, too small, read-only or damaged: what was saved is safe, and every message says so."""

from __future__ import annotations

import errno
import os
import random
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from disk import Disk, full
from said import assert_says
from small_runs import (
    assert_same,
    final_state,
    lasting_rows,
    only_run,
    rows,
    small_config,
    small_words,
    train,
)

from dsac.callbacks import checkpointer
from dsac.callbacks.logger import Appender
from dsac.cli import exit_codes
from dsac.errors import CheckpointError
from dsac.persistence import atomic, checkpoint
from dsac.train import main, start

DURABLE = ("create", "write", "fsync", "close", "mkdir")


def failing(kinds: tuple[str, ...], part: str = "checkpoints") -> Callable[[str], None]:
    """A disk that is full for these calls."""
    return lambda call: full(call) if call.split(" ")[0] in kinds and part in call else None


@pytest.mark.parametrize("kind", DURABLE)
def test_a_full_disk_costs_a_save_and_not_the_run(
    kind: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that ends, or loses what it had, where it could have waited; a message that does not help."""
    monkeypatch.setattr(checkpointer, "RETRY_SECONDS", 0.0)
    runs, tried = tmp_path / "runs", []
    runs.mkdir()
    with Disk(runs) as disk:

        def fill_and_clear(trainer: Any) -> None:
            if trainer.env_steps == 90:
                disk.before = failing((kind,))
            if trainer.env_steps == 120:
                tried.append(len([task for task in trainer.callbacks if task]))
                run = only_run(runs)
                assert checkpoint.newest_intact(run / "checkpoints")[1]["step"] == 0
                disk.before = lambda _: None

        assert train(small_config(runs), None, [fill_and_clear]) == exit_codes.FINISHED
    assert tried
    said = capsys.readouterr().err
    assert "warning: not saved at step 136: " in said
    assert "No space left on device" in said
    assert_says(said, "MB are free", "step 0 is safe", "trying again")
    run = only_run(runs)
    steps = [int(path.name.removeprefix("step-")) for path in checkpoint.committed(run / "checkpoints")]
    assert steps[-1] == 296
    assert not list((run / "checkpoints").glob(".*"))
    assert_same(final_state(run), final_state(finished))


def test_a_disk_that_stays_full_ends_with_what_is_safe(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that ends as if it were saved, and one that waits for ever."""
    monkeypatch.setattr(checkpointer, "RETRY_SECONDS", 0.0)
    runs = tmp_path / "runs"
    runs.mkdir()
    with Disk(runs) as disk:

        def fill(trainer: Any) -> None:
            if trainer.env_steps == 200:
                disk.before = failing(DURABLE)

        assert exit_codes.with_exit_code(lambda: start(small_words(runs), [fill]).exit_code) == exit_codes.STORAGE
    said = capsys.readouterr().err
    assert "step 232 is safe" in said
    run = only_run(runs)
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert_same(final_state(run), final_state(finished))


@pytest.mark.parametrize(
    ("code", "end", "said"),
    [
        (errno.EIO, exit_codes.FINISHED, "step 0 is safe; trying again"),
        (errno.ENOTEMPTY, exit_codes.STORAGE, "step 0 is safe; resume from there"),
    ],
)
def test_what_no_time_mends_is_not_tried_again(
    code: int, end: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a save that is tried every minute although it can never succeed, and one that is given up too soon."""
    monkeypatch.setattr(checkpointer, "RETRY_SECONDS", 0.0)
    runs = tmp_path / "runs"
    runs.mkdir()
    with Disk(runs) as disk:

        def refuse(call: str) -> None:
            if call.startswith("mkdir") and "checkpoints" in call:
                disk.before = lambda _: None
                raise OSError(code, os.strerror(code), call)

        def fail_once(trainer: Any) -> None:
            if trainer.env_steps == 90:
                disk.before = refuse

        assert exit_codes.with_exit_code(lambda: start(small_words(runs), [fail_once]).exit_code) == end
    line = capsys.readouterr().err
    assert os.strerror(code) in line
    assert said in line


def test_a_file_in_the_place_of_a_folder_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that trains on for days, each minute told that it cannot be saved."""
    monkeypatch.setattr(checkpointer, "RETRY_SECONDS", 0.0)

    def spoil(trainer: Any) -> None:
        if trainer.env_steps == 90:
            folder = only_run(tmp_path) / "learner-0"
            folder.rename(tmp_path / "aside")
            folder.write_text("a letter")

    assert exit_codes.with_exit_code(lambda: start(small_words(tmp_path), [spoil]).exit_code) == exit_codes.STORAGE
    said = capsys.readouterr().err
    assert "learner-0: a link or a file, where the run keeps a folder of its own: move it away" in said
    assert "trying again" not in said
    assert (only_run(tmp_path) / "learner-0").read_text() == "a letter"


def test_a_full_disk_costs_curves_and_they_are_counted(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that ends for a curve, half a record that hides the rest, and losses that nobody hears of."""
    runs, real, limit = tmp_path / "runs", Appender.append, SimpleNamespace(on=False)

    class Full:
        """A file that takes a third of each record."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, record: bytes) -> int:
            return int(self.file.write(record[: len(record) // 3]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def append(self: Appender, record: bytes) -> None:
        file = self.file
        if limit.on:
            self.file = cast(Any, Full(file))  # a file in all that append uses
        real(self, record)
        self.file = file

    def fill(trainer: Any) -> None:
        limit.on = 100 <= trainer.env_steps < 180

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Appender, "append", append)
        assert train(small_config(runs), None, [fill]) == exit_codes.FINISHED
    said, run = capsys.readouterr().err, only_run(runs)
    assert_says(said, f"warning: {run / 'learner-0' / 'metrics.csv'}", "no space left")
    assert "metrics.csv lost 3 records" in said
    kept = [row for row in lasting_rows(finished) if not 100 <= int(row[0]) < 180]
    assert lasting_rows(run) == kept
    assert {row["env_steps"] for row in rows(run)} & {"96", "192"} == {"96", "192"}
    assert_same(final_state(run), final_state(finished))


def test_too_little_space_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run of days that was bound to fill the disk, which could be told at once."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000))
    assert main(small_words(tmp_path)) == exit_codes.STORAGE
    said = capsys.readouterr().err
    assert "the run will need about" in said
    assert_says(said, "runs=", "algo.replay_capacity", "keep_checkpoints")


def test_a_read_only_run_is_said_to_be_one(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a traceback, and a resume that trains for hours before it finds that it cannot save."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}

    def refuse(call: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), call)

    with Disk(run) as disk:
        disk.before = refuse
        assert main([f"resume={run}"]) == exit_codes.STORAGE
    assert "Read-only file system" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_a_path_with_spaces_and_signs_of_other_tongues(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a path that is cut at a space, quoted twice, or encoded on the way, the advised command included."""
    runs = tmp_path / "läufe von 机器人's $HOME [1]"
    stop: list[Callable[[Any], None]] = [lambda trainer: trainer.stop("SIGTERM")]
    assert start([*small_words(runs), "total_env_steps=64"], stop).exit_code == exit_codes.RESUMABLE
    python, _, command, *words = advised(capsys)
    assert (python, command) == ("python", "dsac.train")
    assert main(words) == exit_codes.FINISHED
    assert advised(capsys)[3] == f"run={only_run(runs)}"


def advised(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The command that the last line says, as a shell takes it."""
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("next: ")
    return shlex.split(line.removeprefix("next: "))


def test_every_checkpoint_damaged_lists_every_reason(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a fresh start in silence, and one reason where there are two."""
    run = shutil.copytree(finished, tmp_path / "run")
    folders = checkpoint.committed(run / "checkpoints")
    for folder in folders:
        (folder / "state.json").write_text("{}")
    assert main([f"resume={run}", "total_env_steps=300"]) == exit_codes.STORAGE
    said = capsys.readouterr().err
    assert len(folders) == 2
    assert all(f"{folder / 'state.json'}: differs from its manifest" in said for folder in folders)


HUMANOID = "env=Humanoid algo=dsac_t experiment=null threads=1 device=cpu accelerate=eager"
HUMANOID += " num_envs=2 algo.hidden_sizes=[64,64] algo.warmup_env_steps=12000"
HUMANOID += " algo.batch_size=16 total_env_steps=40 eval.episodes=1"


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_997th_byte_of_a_humanoid_checkpoint(tmp_path: Path):
    """Catches a flipped bit anywhere in what a run is continued from, its replay's segments included."""
    assert main([*HUMANOID.split(), f"runs={tmp_path}"]) == exit_codes.FINISHED
    root = only_run(tmp_path) / "checkpoints"
    (folder,) = checkpoint.committed(root)[-1:]
    draw, flipped = random.Random(2), 0
    manifest = atomic.read_manifest(folder)
    entries = {folder / name: entry for name, entry in manifest["files"].items()}
    entries |= {root / "segments" / name: entry for name, entry in manifest["segments"].items()}
    for path, entry in entries.items():
        content = path.read_bytes()
        assert len(content) == entry["bytes"]
        for place in range(draw.randrange(997), len(content), 997):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([content[place] ^ (1 << draw.randrange(8))]))
            with pytest.raises(CheckpointError):
                atomic.check(path, entry)
            with path.open("r+b") as file:
                file.seek(place)
                file.write(content[place : place + 1])
            flipped += 1
        atomic.check(path, entry)
    text = (folder / atomic.MANIFEST).read_bytes()
    for place in range(len(text)):
        (folder / atomic.MANIFEST).write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(CheckpointError):
            atomic.read_manifest(folder)
        flipped += 1
    print(f"{flipped} flipped bytes of {len(entries) + 1} files, each noticed")
