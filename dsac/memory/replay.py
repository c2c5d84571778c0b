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
from dsac.memory.device_copy import DeviceBatches
from dsac.memory.frame_log import Frames, require_equal
from dsac.memory.kernels import TERMINATED, TRANSITION, Integers, Rows, Words, copy_rows, draw_rows, write_block
from dsac.seeding import seed_sequence


class Replay:
    """The newest `capacity` transitions of each learner, and the updates that are due for them.

    seeds: one run seed a learner; learner k draws what a Replay with that seed alone would draw.
    n_step: rewards that are summed; None: 3 for a learner that saw an episode terminate before its first draw, else 1.
    device, rows_on_device: where batches go, and whether frames are kept there as well (None: where they fit).
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
        n_step: int | None,
        seeds: Sequence[int],
        device: str | torch.device = "cpu",
        rows_on_device: bool | None = None,
    ) -> None:
        if min(capacity, num_envs, batch_size, n_step or 1, len(seeds)) < 1:
            raise ValueError("capacity, num_envs, batch_size, n_step and the number of seeds must be at least 1")
        self._ratio = Fraction(updates_per_env_step).limit_denominator(10**6)
        if self._ratio <= 0:
            raise ValueError(f"updates_per_env_step must be at least 1e-6, found {updates_per_env_step}")
        self.frames = Frames(capacity, num_envs, obs_dim, action_dim, len(seeds))
        self._rings, self._written = self.frames.rings, self.frames.written
        self._transitions = np.zeros(len(seeds), np.int64)
        self._generators: Words = np.stack(
            [seed_sequence(seed, "replay").generate_state(4, np.uint64) for seed in seeds]
        )
        self._credit = Fraction(0)
        self._gamma, self._chooses = gamma, n_step is None
        self._n_step = np.full(len(seeds), n_step or 0)  # 0: not chosen yet
        rows, device = (len(seeds), batch_size), torch.device(device)
        self._rows = Rows(*(np.empty(rows, dtype) for dtype in (np.int32, np.int32, np.float32, np.float32)))
        shapes = Batch((*rows, obs_dim), (*rows, action_dim), rows, (*rows, obs_dim), rows)
        self._batch = Batch(*(torch.empty(shape) for shape in shapes))
        self._arrays = Batch(*(tensor.numpy() for tensor in self._batch))
        self._device_batches = None
        if device.type != "cpu" or rows_on_device:
            self._device_batches = DeviceBatches(self._rings, self._written, shapes, device, rows_on_device)

    @property
    def transitions(self) -> Integers:
        """Transitions that each learner holds, (S,)."""
        return self._transitions.copy()

    @property
    def updates_due(self) -> int:
        """Updates that the counted env steps allow and that were not drawn yet."""
        return math.floor(self._credit)

    def n_step(self, learner: int) -> int:
        """Rewards that a transition of this learner sums; 1 until that is chosen."""
        return int(self._n_step[learner]) or 1

    def describe(self) -> str:
        """Size in words: capacity, learners and gigabytes (1e9 bytes)."""
        return self.frames.describe()

    def add(self, block: Transition, counts: bool = True) -> None:
        """Copy a block (T, S, N, ...) into the rings; counts=False, for warm-up, makes no update due.

        Raises ValueError if a field has another shape.
        """
        rows = (len(block.reward), *self._written.shape)
        obs, action = (*rows, self._rings.obs.shape[-1]), (*rows, self._rings.action.shape[-1])
        for name, shape in zip(Transition._fields, (obs, action, rows, obs, rows, rows, rows), strict=True):
            if np.shape(getattr(block, name)) != shape:
                raise ValueError(f"replay expects shape of {name} {shape}, found {np.shape(getattr(block, name))}")
        types = Transition(*(np.float32,) * 4, *(np.bool_,) * 3)
        arrays: list[Any] = [np.ascontiguousarray(field, dtype) for field, dtype in zip(block, types, strict=True)]
        write_block(self._rings, self._written, self._transitions, Transition(*arrays))
        if self._device_batches is not None:
            self._device_batches.copy_new_rows()
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
        if not self._n_step.all():
            terminated = (self._rings.flags & TERMINATED).any(axis=(1, 2))
            self._n_step[:] = np.where(terminated, 3, 1)
        draw_rows(self._rings, self._written, self._generators, self._gamma, self._n_step, self._rows)
        if self._device_batches is not None:
            return self._device_batches.batch(self._rows)
        copy_rows(self._rings, self._rows, self._arrays)
        return self._batch

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
            **self.frames.state_dict(),
            "generators": self._generators.copy(),
            "credit_numerator": self._credit.numerator,
            "credit_denominator": self._credit.denominator,
            **({"n_step": self._n_step.copy()} if self._chooses else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bit for bit where state_dict was taken; `frames` may be any iterable of its chunks.

        Raises ValueError, and changes nothing, if the state belongs to a Replay of another size; ValueError, and is
        of no use, if frames are missing.
        """
        self.frames.refuse_other(state)
        require_equal("shape of generators", self._generators.shape, state["generators"].shape)
        credit = Fraction(int(state["credit_numerator"]), int(state["credit_denominator"]))
        most = self._ratio * self._written.shape[1] * int(state["written"].max())  # as if none were made so far
        if not 0 <= credit <= most:
            raise ValueError(f"replay: {math.floor(credit):,} updates cannot be due")
        self._credit = credit
        self._generators[:] = state["generators"]
        if self._chooses:
            self._n_step[:] = state.get("n_step", 0)  # none in a run that had a number so far
        self.frames.load_state_dict(state)
        self._transitions[:] = (self._rings.flags & TRANSITION).sum(axis=(1, 2))
        if self._device_batches is not None:
            self._device_batches.refill()
