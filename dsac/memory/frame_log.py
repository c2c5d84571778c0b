"""The frames of a replay as a log: what was written once and never changes is handed out in chunks, and taken back.

A ring holds the newest F of the frames that a world ever wrote, frame i in slot i modulo F. All but the newest, which
has no action yet, are settled. Letters: S learners, N worlds of one learner, R rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dsac.memory.kernels import Integers, Rings

CHUNK_BYTES = 4 << 20
Chunk = dict[str, np.ndarray]


class Frames:
    """The settled frames of `rings`; `written` (S, N) counts what each ever held. Both belong to the replay.

    A chunk holds the frames [start, stop) of every world, world after world: start, stop (S, N) int64, obs (R, O),
    action (R, A), reward (R,), flags (R,).
    length   frames of a ring, where the arrays are shorter: what lies beyond them was never written
    """

    def __init__(self, rings: Rings, written: Integers, length: int | None = None) -> None:
        self.rings, self.written = rings, written
        self.length = length or rings.flags.shape[2]
        self.row_bytes = sum(ring[0, 0, :1].nbytes for ring in rings)

    @property
    def start(self) -> Integers:
        """The oldest frame still held, (S, N)."""
        return np.maximum(self.written - self.length, 0)

    @property
    def stop(self) -> Integers:
        """One beyond the last settled frame, (S, N)."""
        return np.maximum(self.written - 1, 0)

    def next_chunk(self, position: Integers) -> tuple[Integers, Integers]:
        """The range (start, stop), (S, N) each, of the next chunk of about CHUNK_BYTES from `position` on."""
        start = np.maximum(position, self.start)
        rows = max(1, CHUNK_BYTES // (self.row_bytes * start.size))
        return start, np.minimum(self.stop, start + rows)

    def bytes_since(self, position: Integers) -> int:
        """How much is settled from `position` (S, N) on."""
        return int((self.stop - np.maximum(position, self.start)).sum()) * self.row_bytes

    def chunk(self, start: Integers, stop: Integers) -> Chunk:
        """Copies of the frames [start, stop), (S, N) each, of every world."""
        worlds = [
            (learner, world, np.arange(int(start[learner, world]), int(stop[learner, world])) % self.length)
            for learner, world in np.ndindex(start.shape)
        ]
        rows = {
            name: np.concatenate([ring[learner, world, slots] for learner, world, slots in worlds])
            for name, ring in self.rings._asdict().items()
        }
        return {"start": start.copy(), "stop": stop.copy(), **rows}

    def __iter__(self) -> Iterator[Chunk]:
        """All settled frames, oldest first, each chunk made when it is asked for."""
        start, stop = self.next_chunk(self.start)
        while (stop > start).any():
            yield self.chunk(start, stop)
            start, stop = self.next_chunk(stop)

    def fill(self, chunks: Iterable[Mapping[str, Any]]) -> None:
        """Write chunks into the rings, whose `written` says already how far they go; older frames are passed over.

        Raises ValueError if the chunks do not cover all settled frames, or are of another shape or type.
        """
        wanted, reached = self.start, np.zeros_like(self.written)
        for chunk in chunks:
            start, stop = chunk["start"], chunk["stop"]
            if start.shape != wanted.shape or (start > np.maximum(reached, wanted)).any():
                raise ValueError("replay: frames are missing between two chunks")
            if (stop < start).any() or (stop - start).sum() != len(chunk["flags"]):
                raise ValueError("replay: a chunk holds another number of frames than it says")
            for name, ring in self.rings._asdict().items():
                if (chunk[name].shape[1:], chunk[name].dtype) != (ring.shape[3:], ring.dtype):
                    raise ValueError(f"replay expects {name} of shape {ring.shape[3:]} and type {ring.dtype}")
            self._put(chunk, wanted)
            reached = stop
        if (np.maximum(reached, wanted) != self.stop).any():
            raise ValueError("replay: frames are missing at the end")

    def _put(self, chunk: Mapping[str, Any], wanted: Integers) -> None:
        row = 0
        for learner, world in np.ndindex(wanted.shape):
            start, stop = int(chunk["start"][learner, world]), int(chunk["stop"][learner, world])
            first = min(stop, max(start, int(wanted[learner, world])))
            slots = np.arange(first, stop) % self.length
            for name, ring in self.rings._asdict().items():
                ring[learner, world, slots] = chunk[name][row + first - start : row + stop - start]
            row += stop - start
