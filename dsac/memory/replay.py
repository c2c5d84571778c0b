"""Off-policy memory: the newest transitions of each learner, each observation stored once.

Every world of every learner has a ring of frames (obs, action, reward, flags). The true successor of a transition is
the next frame of its ring; the final observation of an episode, and the newest one, take a frame without an action.
A frame can be drawn if its flags say that it is a transition, so overwriting the oldest frame forgets exactly that one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from dsac.data import Batch, Transition
from dsac.memory.available_memory import available_memory
from dsac.memory.device_copy import DeviceRows, fit
from dsac.memory.frame_log import Frames
from dsac.memory.kernels import TRANSITION, Integers, Rings, Rows, Words, copy_rows, draw_rows, write_block
from dsac.seeding import seed_sequence

MEMORY_SHARE = 0.9


class InsufficientMemory(MemoryError):
    """The replay asked for is larger than the memory that this process may take."""


def frames_per_world(capacity: int, num_envs: int) -> int:
    """Frames of one ring: its share of the transitions and the newest observation, which has no action yet."""
    return -(-capacity // num_envs) + 1


def replay_bytes(capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int = 1) -> int:
    """Bytes that the rings of a Replay take, without making one."""
    frame = 4 * (obs_dim + action_dim + 1) + 1
    return learners * num_envs * frames_per_world(capacity, num_envs) * frame


class Replay:
    """The newest `capacity` transitions of each learner, and the updates that are due for them.

    seeds: one run seed a learner; learner k draws what a Replay with that seed alone would draw.
    device: where batches go. Observations and actions are kept there as well where they fit, so that a draw sends row
    numbers alone; otherwise rows travel through pinned memory. rows_on_device decides by itself.
    Raises InsufficientMemory, before anything is allocated, if the rings do not fit into memory.
    """

    def __init__(
        self,
        *,
        capacity: int,
        num_envs: int,
        obs_dim: int,
        action_dim: int,
        batch_size: int,
        updates_per_env_step: float,
        gamma: float,
        n_step: int,
        seeds: Sequence[int],
        device: str | torch.device = "cpu",
        rows_on_device: bool | None = None,
    ) -> None:
        if min(capacity, num_envs, batch_size, n_step, len(seeds)) < 1:
            raise ValueError("capacity, num_envs, batch_size, n_step and the number of seeds must be at least 1")
        self._ratio = Fraction(updates_per_env_step).limit_denominator(10**6)
        if self._ratio <= 0:
            raise ValueError(f"updates_per_env_step must be at least 1e-6, found {updates_per_env_step}")
        self._layout = {
            "capacity": capacity,
            "num_envs": num_envs,
            "obs_dim": obs_dim,
            "action_dim": action_dim,
            "learners": len(seeds),
        }
        _refuse_if_too_large(**self._layout)
        ring_shape = (len(seeds), num_envs, frames_per_world(capacity, num_envs))
        # full writes every page, where zeros would leave the memory to run out hours later.
        self._rings = Rings(
            obs=np.full((*ring_shape, obs_dim), 0, np.float32),
            action=np.full((*ring_shape, action_dim), 0, np.float32),
            reward=np.full(ring_shape, 0, np.float32),
            flags=np.full(ring_shape, 0, np.uint8),
        )
        self._written = np.zeros(ring_shape[:2], np.int64)
        self.frames = Frames(self._rings, self._written)
        self._transitions = np.zeros(len(seeds), np.int64)
        self._generators: Words = np.stack(
            [seed_sequence(seed, "replay").generate_state(4, np.uint64) for seed in seeds]
        )
        self._credit = Fraction(0)
        self._gamma, self._n_step = gamma, n_step
        rows, device = (len(seeds), batch_size), torch.device(device)
        on_device = fit(self._rings, device) if rows_on_device is None else rows_on_device
        self._device_rows = DeviceRows(self._rings, device) if on_device else None
        shapes = Batch((*rows, obs_dim), (*rows, action_dim), rows, (*rows, obs_dim), rows)
        self._staging = Staging(Rows(rows, rows, rows, rows) if on_device else shapes, device)
        self._rows = Rows(*(np.empty(rows, dtype) for dtype in (np.int32, np.int32, np.float32, np.float32)))

    @property
    def transitions(self) -> Integers:
        """Transitions that each learner holds, (S,)."""
        return self._transitions.copy()

    @property
    def nbytes(self) -> int:
        """Bytes that the rings take."""
        return sum(ring.nbytes for ring in self._rings)

    @property
    def updates_due(self) -> int:
        """Updates that the counted env steps allow and that were not drawn yet."""
        return math.floor(self._credit)

    def describe(self) -> str:
        """Size in words: capacity, learners and gigabytes (1e9 bytes)."""
        return _size_in_words(self._layout["capacity"], self._layout["learners"], self.nbytes)

    def add(self, block: Transition, counts: bool = True) -> None:
        """Copy a block (T, S, N, ...) into the rings; counts=False, for warm-up, makes no update due.

        Raises ValueError if a field has another shape.
        """
        rows = (len(block.reward), self._layout["learners"], self._layout["num_envs"])
        obs, action = (*rows, self._layout["obs_dim"]), (*rows, self._layout["action_dim"])
        for name, shape in zip(Transition._fields, (obs, action, rows, obs, rows, rows, rows), strict=True):
            _require_equal(f"shape of {name}", shape, np.shape(getattr(block, name)))
        types = Transition(*(np.float32,) * 4, *(np.bool_,) * 3)
        arrays: list[Any] = [np.ascontiguousarray(field, dtype) for field, dtype in zip(block, types, strict=True)]
        before = self._written.copy()
        write_block(self._rings, self._written, self._transitions, Transition(*arrays))
        if self._device_rows is not None:
            self._device_rows.copy_new_rows(before, self._written)
        if counts:
            self._credit += self._ratio * (rows[0] * rows[2])

    def sample(self) -> Batch:
        """Draw a batch (S, B, ...), uniform over each learner's transitions, with replacement.

        Valid until the next draw, which may write over it. The steps of an n-step transition end with the episode or
        at the newest observation.
        Raises RuntimeError while a learner holds no transition.
        """
        if not self._transitions.all():
            raise RuntimeError(f"sampled too early: the learners hold {self._transitions.tolist()} transitions")
        rows, staged = self._rows, self._staging.arrays()
        draw_rows(self._rings, self._written, self._generators, self._gamma, self._n_step, rows)
        if self._device_rows is None:
            copy_rows(self._rings, rows, staged)
            batch: Batch = self._staging.send()
            return batch
        for place, values in zip(staged, rows, strict=True):
            place[...] = values.view(np.float32)  # the bits of a row number, not its value
        return self._device_rows.batch(self._staging.send())

    def batches(self) -> Iterator[Batch]:
        """Draw the batches that are due, each when it is asked for; what is not asked for stays due.

        None while a learner holds no transition, as where all steps so far were invalid.
        """
        while self.updates_due > 0 and self._transitions.all():
            batch = self.sample()
            self._credit -= 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """All that later draws depend on; `frames` hands out copies of the frames when it is iterated."""
        return {
            **self._layout,
            "frames": self.frames,
            "newest": self._newest().copy(),
            "written": self._written.copy(),
            "generators": self._generators.copy(),
            "credit_numerator": self._credit.numerator,
            "credit_denominator": self._credit.denominator,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bit for bit where state_dict was taken; `frames` may be any iterable of its chunks.

        Raises ValueError, and changes nothing, if the state belongs to a Replay of another size; ValueError, and is
        of no use, if frames are missing.
        """
        for name, value in self._layout.items():
            _require_equal(name, value, int(state[name]))
        for name, array in (("written", self._written), ("generators", self._generators), ("newest", self._newest())):
            _require_equal(f"shape of {name}", array.shape, state[name].shape)
        credit = Fraction(int(state["credit_numerator"]), int(state["credit_denominator"]))
        worlds = self._written.shape[1]
        if not 0 <= credit <= self._ratio * worlds * int(state["written"].max()):  # as if none were made so far
            raise ValueError(f"replay: {math.floor(credit):,} updates cannot be due")
        self._credit = credit
        self._written[:] = state["written"]
        self._generators[:] = state["generators"]
        unused = np.arange(self._rings.flags.shape[2]) >= self._written[..., None]
        self._rings.flags[unused] = 0
        self.frames.fill(state["frames"])
        learners, worlds = np.indices(self._written.shape)
        self._rings.obs[learners, worlds, self._newest_slot()] = state["newest"]
        self._rings.flags[learners, worlds, self._newest_slot()] = 0
        self._transitions[:] = (self._rings.flags & TRANSITION).sum(axis=(1, 2))
        if self._device_rows is not None:
            self._device_rows.refill()

    def _newest_slot(self) -> Integers:
        """Where the newest frame of every ring lies, (S, N)."""
        slot: Integers = np.maximum(self._written - 1, 0) % self._rings.flags.shape[2]
        return slot

    def _newest(self) -> Any:
        """The newest observation of every ring, which has no action yet, (S, N, O)."""
        return np.take_along_axis(self._rings.obs, self._newest_slot()[..., None, None], axis=2)[:, :, 0]


class Staging:
    """Host buffers that draws go into, each one flat so that it reaches the device in a single copy.

    shapes: those of the fields, in the NamedTuple that `arrays` and `send` give back.
    """

    def __init__(self, shapes: Any, device: torch.device) -> None:
        self._sizes = [math.prod(shape) for shape in shapes]
        self._shapes, self._device = shapes, device
        self._pinned = device.type == "cuda"
        # Two buffers let the host draw while the device still reads the batch before.
        self._buffers = [self._buffer() for _ in range(2 if self._pinned else 1)]
        self._copied: list[torch.cuda.Event | None] = [None for _ in self._buffers]
        self._current = 0

    def arrays(self) -> Any:
        """Arrays (S, B, ...) to put the next draw into, once the device has read what they held."""
        self._current = (self._current + 1) % len(self._buffers)
        copied = self._copied[self._current]
        if copied is not None:
            copied.synchronize()
        return type(self._shapes)(*(tensor.numpy() for tensor in self._split(self._buffers[self._current])))

    def send(self) -> Any:
        """Tensors (S, B, ...) of what was drawn; on the CPU they share the buffer's memory."""
        flat = self._buffers[self._current].to(self._device, non_blocking=self._pinned)
        if self._pinned:
            self._copied[self._current] = torch.cuda.current_stream(self._device).record_event()
        return self._split(flat)

    def _buffer(self) -> torch.Tensor:
        return torch.empty(sum(self._sizes), dtype=torch.float32, pin_memory=self._pinned)

    def _split(self, flat: torch.Tensor) -> Any:
        """The fields as views of one flat tensor."""
        parts = zip(torch.split(flat, self._sizes), self._shapes, strict=True)
        return type(self._shapes)(*(part.view(shape) for part, shape in parts))


def _refuse_if_too_large(capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int) -> None:
    """Raise InsufficientMemory, naming the capacity that fits, if the rings exceed MEMORY_SHARE of free memory."""
    needed = replay_bytes(capacity, num_envs, obs_dim, action_dim, learners)
    available = available_memory()
    budget = int(MEMORY_SHARE * available)
    if needed > budget:
        one_frame_each = replay_bytes(0, num_envs, obs_dim, action_dim, learners)
        fits = max(0, num_envs * (budget // one_frame_each - 1))
        raise InsufficientMemory(
            f"{_size_in_words(capacity, learners, needed)} is needed, {available / 1e9:.2f} GB of memory is available; "
            f"a capacity of {fits:,} fits into {MEMORY_SHARE:.0%} of it"
        )


def _size_in_words(capacity: int, learners: int, size: int) -> str:
    plural = "" if learners == 1 else "s"
    return f"replay {capacity:,} transitions x {learners} learner{plural}: {size / 1e9:.2f} GB"


def _require_equal(name: str, expected: object, found: object) -> None:
    if found != expected:
        raise ValueError(f"replay expects {name} {expected}, found {found}")
