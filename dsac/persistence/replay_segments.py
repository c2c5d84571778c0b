"""Replay on disk: what fills up is written once, by a thread beside the training, so that a save costs what is new.

A segment is a safetensors file of one chunk of dsac.memory.frame_log; it is believed where a manifest lists it with its
hash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from dsac.errors import CheckpointError
from dsac.memory.frame_log import CHUNK_BYTES, Chunk, Frames
from dsac.memory.kernels import Integers
from dsac.persistence.atomic import Entry, check, plain_name, read_checked, write_file
from dsac.schema.files import is_folder, make_folder, sync

LARGEST_HEADER = 4 << 20  # bytes: names, types and places of a file's arrays
SUFFIX = ".safetensors"
ON_THEIR_WAY = 2  # chunks copied and not written yet: more would cost memory, so the training waits


class Log(NamedTuple):
    """The frames in a checkpoint: whole segments by name, and the chunk that is not one yet.

    Iterating yields the chunks, oldest first, each segment checked as it is read; raises CheckpointError.
    """

    folder: Path
    segments: Mapping[str, Entry]
    tail: Chunk

    def __iter__(self) -> Iterator[Any]:
        for name, entry in self.segments.items():
            yield arrays_of(read_checked(self.folder / plain_name(name), entry), self.folder / name)
        yield self.tail

    def check(self) -> None:
        """Raise CheckpointError unless every segment is what the manifest lists."""
        for name, entry in self.segments.items():
            if not name.removesuffix(SUFFIX).isdecimal():
                raise CheckpointError(f"{self.folder}: {name!r} is not the name of a segment")
            check(self.folder / plain_name(name), entry)


class Segment(NamedTuple):
    """A segment that is written or on its way: the range of its frames, (S, N) each, and its entry to come."""

    name: str
    start: Integers
    stop: Integers
    entry: Future[Entry]


class Archive:
    """Writes the frames of a replay below `folder` as they settle. `found` is what a resumed run goes on from."""

    def __init__(self, folder: Path, frames: Frames, found: Log | None = None) -> None:
        self.folder, self.frames = folder, frames
        self.writer = ThreadPoolExecutor(1, "segments")
        self.segments = [] if found is None else [written(folder / name, found) for name in found.segments]
        self.number = 1 + max((int(segment.name.removesuffix(SUFFIX)) for segment in self.segments), default=-1)
        self.position = np.zeros_like(frames.written) if found is None else found.tail["start"].copy()

    def write_full_segments(self) -> None:
        """Hand what fills segments to the thread; call it after every block."""
        while self.frames.bytes_since(self.position) >= CHUNK_BYTES and not self.failed():
            start, stop = self.frames.next_chunk(self.position)
            make_folder(self.folder.parent)
            make_folder(self.folder)
            wait([segment.entry for segment in self.segments[:-ON_THEIR_WAY]])
            name = f"{self.number:012d}{SUFFIX}"
            entry = self.writer.submit(write_segment, self.folder / name, self.frames.chunk(start, stop))
            self.segments.append(Segment(name, start, stop, entry))
            self.position, self.number = stop, self.number + 1

    def failed(self) -> bool:
        """Whether a segment could not be written since the last commit."""
        return any(segment.entry.done() and segment.entry.exception() for segment in self.segments[-ON_THEIR_WAY - 1 :])

    def commit(self) -> Log:
        """The log as a checkpoint holds it, its segments on the disk.

        Raises OSError where one could not be written; the next commit tries again, as long as the ring has its frames.
        """
        self.write_full_segments()
        for index, segment in enumerate(self.segments):
            if error := segment.entry.exception():
                self.segments, self.position = self.segments[:index], segment.start
                raise error
        start = np.maximum(self.position, self.frames.start)
        self.segments = [segment for segment in self.segments if (segment.stop > self.frames.start).any()]
        if self.segments:
            sync(self.folder)
        entries = {segment.name: segment.entry.result() for segment in self.segments}
        return Log(self.folder, entries, self.frames.chunk(start, self.frames.stop))

    def unsaved_bytes(self) -> int:
        """What the next commit still has to write."""
        return self.frames.bytes_since(self.position)

    def bytes_after(self, env_steps: int) -> int:
        """What the segments will take once each learner has made so many steps; two checkpoints may list some more."""
        rings = self.frames.rings.flags
        return int(1.2 * min(rings.size, len(rings) * env_steps) * self.frames.row_bytes)

    def close(self) -> None:
        """Let the thread end."""
        self.writer.shutdown()


def write_segment(path: Path, chunk: Chunk) -> Entry:
    """Write a chunk as a file; its entry. Raises OSError, and leaves nothing, where the disk does not take it."""
    try:
        return write_file(path, [save(chunk)])
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def written(path: Path, found: Log) -> Segment:
    """A segment of an earlier session."""
    entry: Future[Entry] = Future()
    entry.set_result(found.segments[path.name])
    with safe_open(path, "np") as file:
        return Segment(path.name, file.get_tensor("start"), file.get_tensor("stop"), entry)


def arrays_of(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays in the content of a safetensors file, found at `path`. Raises CheckpointError where it is none."""
    if len(content) < 8 or int.from_bytes(content[:8], "little") > LARGEST_HEADER:
        raise CheckpointError(f"{path}: its header has no length that dsac writes")
    try:
        found: dict[str, np.ndarray] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return found


def prune(folder: Path, listed: set[str]) -> None:
    """Unlink every segment that no manifest lists any more."""
    for path in folder.iterdir() if is_folder(folder) else ():
        if path.name not in listed and not is_folder(path):
            path.unlink()
