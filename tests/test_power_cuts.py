"""Every tree that a power cut may leave of the writes of a save still holds what was reported saved."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk import Disk, Killed, build
from test_replay_state import make, random_block

from dsac.errors import CheckpointError
from dsac.export.write import whole_folder
from dsac.memory import frame_log
from dsac.persistence import atomic, checkpoint
from dsac.persistence.checkpoint import newest, save_step
from dsac.persistence.replay_segments import Archive


@pytest.fixture(autouse=True)
def idle_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model says what a flush does; the real disk need not do it thousands of times."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Cuts:
    """Collects the trees that a cut after each call may leave, each with what had been reported saved by then."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.reported = disk, 0
        self.found: dict[frozenset[Any], tuple[dict[str, bytes | None], int]] = {}
        disk.after = self.look

    def look(self, _: str) -> None:
        for state in self.disk.states():
            self.found.setdefault(frozenset((*state.items(), ("reported", self.reported))), (state, self.reported))

    def report(self, step: int) -> None:
        """A save of this step has returned."""
        self.reported = step
        self.look("")

    def trees(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """Each tree in turn, made real, and what was reported saved."""
        for index, (state, reported) in enumerate(self.found.values()):
            root = build(state, folder / str(index))
            yield root, reported
            shutil.rmtree(root)
        print(f"{len(self.found)} trees after {len(self.disk.calls)} calls, each holds what was reported")


def test_the_disk_forgets_what_was_not_flushed(tmp_path: Path):
    """Catches a harness that is kinder than a power cut, with which every test of this file would pass."""
    with Disk(tmp_path) as disk:

        def left() -> list[dict[str, bytes | None]]:
            states = list(disk.states())
            return [state for index, state in enumerate(states) if state not in states[:index]]

        atomic.write_file(tmp_path / "a", [b"old"])
        assert left() == [{}, {"a": b"old"}]
        atomic.sync(tmp_path)
        (tmp_path / "a").rename(tmp_path / "b")
        assert left() == [{"a": b"old"}, {"b": b"old"}]
        atomic.sync(tmp_path)
        descriptor = os.open(tmp_path / "b", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"careless")
        os.close(descriptor)
        assert left() == [{"b": b"old"}, {"b": b"carel"}, {"b": b"careless"}]
        descriptor = os.open(tmp_path / "b", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"x")
        os.fsync(descriptor)
        os.close(descriptor)
        (tmp_path / "d").mkdir()
        atomic.write_file(tmp_path / "d" / "c", [b"y"])
        assert left() == [{"b": b"x"}, {"b": b"x", "d": None}, {"b": b"x", "d": None, "d/c": b"y"}]
        assert disk.calls[-4:] == ["create d/c", "write d/c", "fsync d/c", "close d/c"]


class Session:
    """A replay that is filled, saved and resumed below `root`, step by step."""

    def __init__(self, root: Path) -> None:
        self.root, self.replay = root, make(capacity=24)
        found = None
        if checkpoint.committed(root):
            state, _, _ = newest(root)
            self.replay.load_state_dict(state["memory"])
            found = state["memory"]["frames"]
        self.archive = Archive(root / checkpoint.SEGMENTS, self.replay.frames, found)

    def save(self, step: int) -> None:
        self.replay.add(random_block(5, seed=step))
        state = {"value": step, "array": np.full(3, step, np.float32), "memory": self.replay.state_dict()}
        self.archive.write_full_segments()
        state["memory"]["frames"] = self.archive.commit()
        save_step(self.root, step, state, {}, keep=2)


def check(root: Path, reported: int) -> None:
    """What is loaded is whole and no older than what was reported, and whatever older one is there is whole too."""
    for folder in checkpoint.committed(root):
        for log in checkpoint.logs(checkpoint.read(folder)[0]):
            log.check()
    try:
        state, manifest, _ = newest(root)
    except CheckpointError:
        assert reported == 0
        return
    assert manifest["step"] == state["value"] >= reported
    assert (state["array"] == state["value"]).all()
    replay = make(capacity=24)
    replay.load_state_dict(state["memory"])
    assert int(replay.state_dict()["written"].max()) == 6 * state["value"]


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few rows."""
    monkeypatch.setattr(frame_log, "CHUNK_BYTES", 150)
    monkeypatch.setattr("dsac.persistence.replay_segments.CHUNK_BYTES", 150)


def test_checkpoints_survive_every_cut(tmp_path: Path, tiny_chunks: None):
    """Catches a name that is flushed before what it names, and anything removed before its successor is safe."""
    root = tmp_path / "run"
    root.mkdir()
    with Disk(root, piece=400) as disk:
        cuts, session = Cuts(disk), Session(root / "checkpoints")
        for step in (1, 2, 3, 4):
            session.save(step)
            cuts.report(step)
    kinds = {(call.split(" ")[0], call.rpartition("/")[2]) for call in disk.calls}
    assert {("unlink", "manifest.json"), ("unlink", "000000000000.safetensors")} <= kinds  # something was pruned
    assert len(cuts.found) > 200
    for tree, reported in cuts.trees(tmp_path / "trees"):
        check(tree / "checkpoints", reported)


def test_a_replaced_policy_survives_every_cut(tmp_path: Path):
    """Catches a best policy that is taken away before the better one is safe."""
    root = tmp_path / "learner-0"
    root.mkdir()
    with Disk(root, piece=100) as disk:
        cuts = Cuts(disk)
        for step in (1, 2, 3):
            checkpoint.write(root / "best", {"value": step}, {})
            cuts.report(step)
    for tree, reported in cuts.trees(tmp_path / "trees"):
        if reported or atomic.present(tree / "best"):
            assert checkpoint.read(tree / "best")[0]["value"] in (reported, reported + 1)
            checkpoint.write(tree / "best", {"value": 9}, {})
            assert checkpoint.read(tree / "best")[0]["value"] == 9
            assert [path.name for path in tree.iterdir()] == ["best"]


def test_a_replaced_policy_survives_a_kill_and_then_a_cut(tmp_path: Path):
    """Catches the remains of a killed save that the next one clears away before what it stands on is safe."""
    for at in (1, 8, *range(14, 40)):  # from the manifest on, each call
        root = tmp_path / str(at)
        root.mkdir()
        with Disk(root) as disk:
            for step in (1, 2):
                checkpoint.write(root / "best", {"value": step}, {})
            disk.before = partial(kill_after, disk, len(disk.calls) + at)
            with contextlib.suppress(Killed):
                checkpoint.write(root / "best", {"value": 3}, {})
                return
            disk.before = lambda _: None
            cuts = Cuts(disk)
            cuts.report(2)
            checkpoint.write(root / "best", {"value": 4}, {})
            cuts.report(4)
        for tree, reported in cuts.trees(tmp_path / "trees"):
            assert checkpoint.read(tree / "best")[0]["value"] >= reported
    raise AssertionError("a save takes fewer calls")


def test_a_replaced_export_survives_every_cut(tmp_path: Path):
    """Catches a folder that a controller reads which is old in one file and new in another."""
    root = tmp_path / "run"
    root.mkdir()
    with Disk(root, piece=100) as disk:
        cuts = Cuts(disk)
        for step in (1, 2, 3):
            with whole_folder(root / "export") as folder:
                for name in ("policy.onnx", "policy.json"):
                    atomic.write_file(folder / name, [str(step).encode() * 200])
            cuts.report(step)
    assert len(cuts.found) > 20
    for tree, reported in cuts.trees(tmp_path / "trees"):
        place = atomic.readable_path(tree / "export")
        if reported or place.exists():
            texts = {(place / name).read_text() for name in ("policy.onnx", "policy.json")}
            assert texts in ({str(reported) * 200}, {str(reported + 1) * 200})


def test_a_replaced_text_survives_every_cut(tmp_path: Path):
    """Catches a run.json that is cut when the power is."""
    root = tmp_path / "run"
    root.mkdir()
    with Disk(root, piece=3) as disk:
        cuts = Cuts(disk)
        for step in (1, 2, 3):
            atomic.write_text(root / "run.json", str(step) * 9)
            cuts.report(step)
    for tree, reported in cuts.trees(tmp_path / "trees"):
        if reported:
            assert (tree / "run.json").read_text() in (str(reported) * 9, str(reported + 1) * 9)


def killed_then_cut(folder: Path, at: int) -> tuple[int, bool]:
    """Kill a save at its n-th call, go on in a second session, cut the power anywhere in that one.

    Returns how many trees were tried, and whether the save was over before its n-th call.
    """
    root = folder / "run"
    root.mkdir(parents=True)
    with Disk(root, piece=400) as disk:
        session = Session(root)
        for step in (1, 2, 3):
            session.save(step)
        first = len(disk.calls)
        disk.before = partial(kill_after, disk, first + at)
        with contextlib.suppress(Killed):
            session.save(4)
        over = len(disk.calls) < first + at
        disk.before = lambda call: None
        cuts = Cuts(disk)
        cuts.report(3)
        second = Session(root)
        step = int(second.replay.state_dict()["written"].max()) // 6
        cuts.report(step)
        for later in (step + 1, step + 2):
            second.save(later)
            cuts.report(later)
    for tree, reported in cuts.trees(folder / "trees"):
        check(tree, reported)
    return len(cuts.found), over


@pytest.mark.parametrize("at", [3, 17, 23, 29])
def test_a_kill_and_then_a_cut(tmp_path: Path, tiny_chunks: None, at: int):
    """Catches a second session that tidies up what the first left before its own work is safe."""
    assert killed_then_cut(tmp_path, at)[0] > 50


def test_a_kill_at_any_call(tmp_path: Path, tiny_chunks: None):
    """Catches a save that a kill leaves neither undone nor done, and what the next session cannot go on from."""
    at, over = 0, False
    while not over:
        root = tmp_path / str(at)
        root.mkdir()
        with Disk(root, piece=400) as disk:
            session = Session(root)
            session.save(1)
            session.save(2)
            disk.before = partial(kill_after, disk, len(disk.calls) + at)
            with contextlib.suppress(Killed):
                session.save(3)
                over = True
        check(root, 2)
        Session(root).save(9)
        assert newest(root)[0]["value"] == 9
        assert len(checkpoint.committed(root)) == 2
        assert not list(root.glob(".*"))
        at += 1
    assert at > 30


def kill_after(disk: Disk, calls: int, _: str) -> None:
    """End the process once so many calls were made."""
    if len(disk.calls) == calls:
        raise Killed
