"""The frames of a replay as a log: what was written once and never changes is handed out in chunks, and taken back.

A ring holds the newest F of the frames that a world ever wrote, frame i in slot i modulo F. All but the newest, which
has no action yet, are settled. Letters: S learners, N worlds of one learner, R rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dsac.memory.kernels import Floats, Integers
from dsac.memory.size import empty_rings, frames_per_world, size_text

CHUNK_BYTES = 4 << 20
Chunk = dict[str, np.ndarray]


class Frames:
    """The rings of a replay, and the settled frames in them as a log.

    written (S, N) counts the frames that each ring ever held; the replay's kernels move it. A chunk holds the frames
    [start, stop) of every world, world after world: start, stop (S, N) int64, obs (R, O), action (R, A), reward (R,),
    flags (R,). Raises InsufficientMemory, before anything is allocated, if the rings do not fit into memory.
    """

    def __init__(self, capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int) -> None:
        self.layout = {
            "capacity": capacity,
            "num_envs": num_envs,
            "obs_dim": obs_dim,
            "action_dim": action_dim,
            "learners": learners,
        }
        self.rings = empty_rings(**self.layout)
        self.written = np.zeros((learners, num_envs), np.int64)
        self.length = frames_per_world(capacity, num_envs)
        self.row_bytes = sum(ring[0, 0, :1].nbytes for ring in self.rings)

    @property
    def nbytes(self) -> int:
        """Bytes that the rings take."""
        return sum(ring.nbytes for ring in self.rings)

    def describe(self) -> str:
        """Size in words: capacity, learners and gigabytes (1e9 bytes)."""
        return size_text(self.layout["capacity"], self.layout["learners"], self.nbytes)

    @property
    def start(self) -> Integers:
        """The oldest frame still held, (S, N)."""
        return np.maximum(self.written - self.length, 0)

    @property
    def stop(self) -> Integers:
        """One beyond the last settled frame, (S, N)."""
        return np.maximum(self.written - 1, 0)

    @property
    def newest(self) -> Floats:
        """The newest observation of every ring, which has no action yet, (S, N, O)."""
        obs: Floats = np.take_along_axis(self.rings.obs, self._newest_slot()[..., None, None], axis=2)[:, :, 0]
        return obs

    def _newest_slot(self) -> Integers:
        """Where the newest frame of every ring lies, (S, N)."""
        slot: Integers = self.stop % self.length
        return slot

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

    def state_dict(self) -> dict[str, Any]:
        """Layout, counts and newest observations; `frames` hands out copies of the settled ones when it is iterated."""
        return {**self.layout, "frames": self, "newest": self.newest.copy(), "written": self.written.copy()}

    def refuse_other(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError if a state is of frames of another layout."""
        for name, value in self.layout.items():
            require_equal(name, value, int(state[name]))
        for name, array in (("written", self.written), ("newest", self.newest)):
            require_equal(f"shape of {name}", array.shape, state[name].shape)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold the frames of a state of the same layout; its `frames` may be any iterable of chunks.

        Raises ValueError as `fill` does.
        """
        self.written[:] = state["written"]
        self.rings.flags[np.arange(self.length) >= self.written[..., None]] = 0
        self.fill(state["frames"])
        learners, worlds = np.indices(self.written.shape)
        self.rings.obs[learners, worlds, self._newest_slot()] = state["newest"]
        self.rings.flags[learners, worlds, self._newest_slot()] = 0

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


def require_equal(name: str, expected: object, found: object) -> None:
    """Raise ValueError, naming both, where something is not as expected."""
    if found != expected:
        raise ValueError(f"replay expects {name} {expected}, found {found}")
