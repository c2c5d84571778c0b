"""The replay on disk: each frame written once, however often the run is saved, resumed or refused by the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk import Disk, full
from test_replay_state import assert_same_draws, make, random_block

from dsac.errors import CheckpointError
from dsac.memory import frame_log
from dsac.memory.replay import Replay
from dsac.persistence import checkpoint
from dsac.persistence.checkpoint import newest, save_step
from dsac.persistence.replay_segments import Archive

CAPACITY = 400


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of some twenty rows."""
    monkeypatch.setattr(frame_log, "CHUNK_BYTES", 500)
    monkeypatch.setattr("dsac.persistence.replay_segments.CHUNK_BYTES", 500)


class Saved:
    """A replay of two worlds with its archive below `root`."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.root, self.replay = root, make(capacity=CAPACITY, **changes)
        self.archive = Archive(root / checkpoint.SEGMENTS, self.replay.frames)
        self.step = 0

    def add(self, blocks: int) -> None:
        """Go on collecting, the archive following."""
        for _ in range(blocks):
            self.step += 1
            self.replay.add(random_block(3, seed=self.step))
            self.archive.write_full_segments()

    def save(self) -> None:
        state = {**self.replay.state_dict(), "frames": self.archive.commit()}
        save_step(self.root, self.step, {"memory": state}, {}, keep=2)

    def resumed(self) -> Replay:
        """Another replay, from the newest checkpoint; the archive goes on from there as well."""
        state, _, _ = newest(self.root)
        replay = make(capacity=CAPACITY, seeds=[77])
        replay.load_state_dict(state["memory"])
        self.archive = Archive(self.root / checkpoint.SEGMENTS, replay.frames, state["memory"]["frames"])
        return replay


def test_a_save_costs_what_is_new(tmp_path: Path):
    """Catches a save that writes the replay anew, segments that pile up, and rows that are written twice."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    written = []
    with Disk(tmp_path) as disk:
        saved = Saved(root)
        for _ in range(20):
            before = disk.bytes_written
            saved.add(20)
            saved.save()
            written.append(disk.bytes_written - before)
    per_row = saved.replay.frames.row_bytes
    rows = 20 * 2 * 4  # blocks, worlds, frames of a block that continues no other
    assert max(written) < 3 * rows * per_row + 40_000  # headers, manifests
    assert written[-1] < 1.2 * written[5]
    held = sum(path.stat().st_size for path in (root / "segments").iterdir())
    assert held < 3 * saved.replay.frames.nbytes + 40_000
    names = [path.name for path in (root / "segments").iterdir()]
    assert min(names) > "000000000000.safetensors"


@pytest.mark.parametrize("blocks", [1, 5, 40, 90])
def test_a_resume_is_exact_whatever_lies_in_segments(tmp_path: Path, blocks: int):
    """Catches frames lost or doubled where segments meet, at the wrap of the ring, or in a second session."""
    saved = Saved(tmp_path)
    for _ in range(3):
        saved.add(blocks)
        saved.save()
        resumed = saved.resumed()
        assert_same_draws(saved.replay, resumed)
        saved.replay = resumed
    assert len(list((tmp_path / "segments").glob("*"))) > 0 or blocks < 5


def test_a_full_disk_is_made_up_for(tmp_path: Path):
    """Catches a segment that failed and is never written again, and a run that cannot be saved from then on."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    with Disk(tmp_path) as disk:
        saved = Saved(root)
        saved.add(20)
        saved.save()
        disk.before = lambda call: full(call) if call.startswith("write") and "segments" in call else None
        saved.add(20)
        with pytest.raises(OSError, match="No space left"):
            saved.save()
        saved.add(5)
        with pytest.raises(OSError, match="No space left"):
            saved.save()
        disk.before = lambda call: None
        saved.add(5)
        saved.save()
    assert_same_draws(saved.replay, saved.resumed())


def test_a_disk_that_is_full_for_longer_than_the_ring_reaches_back(tmp_path: Path):
    """Catches a log with a hole that the ring can no longer fill."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    with Disk(tmp_path) as disk:
        saved = Saved(root)
        saved.add(20)
        saved.save()
        disk.before = lambda call: full(call) if call.startswith("write") and "segments" in call else None
        saved.add(200)
        disk.before = lambda call: None
        with pytest.raises(OSError, match="No space left"):
            saved.save()
        saved.save()
    assert_same_draws(saved.replay, saved.resumed())


def test_a_damaged_segment_costs_the_checkpoints_that_need_it(tmp_path: Path):
    """Catches a flipped bit in the replay that is trained on, and a fall-back to what needs the same segment."""
    saved = Saved(tmp_path)
    for _ in range(2):
        saved.add(20)
        saved.save()
    last = max((tmp_path / "segments").iterdir())
    content = bytearray(last.read_bytes())
    content[-5] ^= 4
    last.write_bytes(content)
    state, manifest, reasons = newest(tmp_path)
    assert manifest["step"] == 20
    assert reasons == [f"{last}: differs from its manifest"]
    assert list(state["memory"]["frames"])
    min((tmp_path / "segments").iterdir()).unlink()
    with pytest.raises(CheckpointError, match="missing, or not a plain file"):
        newest(tmp_path)


def test_a_segment_out_of_its_folder_is_refused(tmp_path: Path):
    """Catches a manifest that makes the reader look elsewhere."""
    saved = Saved(tmp_path)
    saved.add(20)
    saved.save()
    log = newest(tmp_path)[0]["memory"]["frames"]
    entry = next(iter(log.segments.values()))
    for name in ("../x", "/etc/hosts", ".."):
        with pytest.raises(CheckpointError, match="not the name of a file"):
            list(log._replace(segments={name: entry}))


def test_what_a_killed_session_left_is_cleared_away(tmp_path: Path):
    """Catches segments that no checkpoint lists and that stay for good."""
    saved = Saved(tmp_path)
    saved.add(20)
    saved.save()
    listed = {path.name for path in (tmp_path / "segments").iterdir()}
    saved.add(30)
    saved.archive.close()
    assert {path.name for path in (tmp_path / "segments").iterdir()} > listed
    saved.replay = saved.resumed()
    saved.step = 20
    saved.save()
    assert {path.name for path in (tmp_path / "segments").iterdir()} == listed


def test_a_lagging_world_is_saved_too(tmp_path: Path):
    """Catches a log that waits for the slowest world, or skips what it has not written yet."""
    saved = Saved(tmp_path)
    for step in range(60):
        block = random_block(3, seed=step)
        fails = np.zeros(block.reward.shape, bool)
        fails[..., 1] = step > 5
        block.obs[..., 1, :] = np.where(step > 5, 5.0, block.obs[..., 1, :])  # the same again: no new frame
        saved.replay.add(block._replace(invalid=fails))
        saved.archive.write_full_segments()
        saved.step += 1
    saved.save()
    log = newest(tmp_path)[0]["memory"]["frames"]
    assert len(log.segments) > 2
    assert len(log.tail["reward"]) * saved.replay.frames.row_bytes < 2 * frame_log.CHUNK_BYTES
    assert_same_draws(saved.replay, saved.resumed())
