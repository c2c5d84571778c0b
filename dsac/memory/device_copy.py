"""How the batches of a replay reach a GPU: as rows through pinned memory, or from a copy of the wide columns there.

The rings in host memory stay the truth: they are what is saved, and what the rows of a batch are chosen from.

Letters: S learners, N worlds of one learner, R frames of one ring, B batch, O observation, A action.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dsac.data import Batch
from dsac.memory.kernels import Integers, Rings, Rows, copy_rows

DEVICE_SHARE = 0.5


class DeviceBatches:
    """Batches of drawn rows on a device, shapes as given.

    Observations and actions are kept on the device as well where they fit, so that a draw sends row numbers alone;
    rows_on_device says otherwise, None decides by itself.
    """

    def __init__(
        self, rings: Rings, written: Integers, shapes: Batch, device: torch.device, rows_on_device: bool | None
    ) -> None:
        self._rings = rings
        on_device = fit(rings, device) if rows_on_device is None else rows_on_device
        self._device_rows = DeviceRows(rings, written, device) if on_device else None
        rows = shapes.reward
        self._staging = Staging(Rows(rows, rows, rows, rows) if on_device else shapes, device)

    def batch(self, rows: Rows) -> Batch:
        """The batch of drawn rows, tensors (S, B, ...) on the device."""
        staged = self._staging.arrays()
        if self._device_rows is None:
            copy_rows(self._rings, rows, staged)
            sent: Batch = self._staging.send()
            return sent
        for place, values in zip(staged, rows, strict=True):
            place[...] = values.view(np.float32)  # the bits of a row number, not its value
        return self._device_rows.batch(self._staging.send())

    def copy_new_rows(self) -> None:
        """Copy the frames that were written since the last call, where frames are kept on the device."""
        if self._device_rows is not None:
            self._device_rows.copy_new_rows()

    def refill(self) -> None:
        """Copy all frames, where frames are kept on the device."""
        if self._device_rows is not None:
            self._device_rows.refill()


def fit(rings: Rings, device: torch.device) -> bool:
    """Whether observations and actions take less than DEVICE_SHARE of the device's free memory; never on the CPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return rings.obs.nbytes + rings.action.nbytes < DEVICE_SHARE * free


class DeviceRows:
    """Observations (S, N R, O) and actions (S, N R, A) as the rings hold them, on a device.

    written: (S, N), the replay's counts of the frames begun so far.
    """

    def __init__(self, rings: Rings, written: Integers, device: torch.device) -> None:
        self.rings, self.written, self.device = rings, written, device
        self.copied = written.copy()
        learners, worlds, self.frames, _ = rings.obs.shape
        self.obs = torch.zeros(learners, worlds * self.frames, rings.obs.shape[-1], device=device)
        self.action = torch.zeros(learners, worlds * self.frames, rings.action.shape[-1], device=device)
        self.learner = torch.arange(learners, device=device)[:, None]

    def copy_new_rows(self) -> None:
        """Copy the frames that were begun or changed since the last call."""
        first = (self.copied - 1).clip(0)
        first = first.clip(min=self.written - self.frames)
        longest = int((self.written - first).max())
        counts = first[..., None] + torch.arange(longest).numpy()
        learner, world, step = (counts < self.written[..., None]).nonzero()
        frame = counts[learner, world, step] % self.frames
        place = tuple(torch.from_numpy(index).to(self.device) for index in (learner, world * self.frames + frame))
        self.obs[place] = torch.from_numpy(self.rings.obs[learner, world, frame]).to(self.device)
        self.action[place] = torch.from_numpy(self.rings.action[learner, world, frame]).to(self.device)
        self.copied[:] = self.written

    def refill(self) -> None:
        """Copy everything, ring by ring."""
        for learner in range(self.obs.shape[0]):
            for mine, ring in ((self.obs, self.rings.obs), (self.action, self.rings.action)):
                mine[learner].copy_(torch.from_numpy(ring[learner]).flatten(0, 1))
        self.copied[:] = self.written

    def batch(self, rows: Rows) -> Batch:
        """The batch of drawn rows, tensors (S, B) on the device, start and end as row numbers."""
        start, end = (numbers.view(torch.int32).long() for numbers in (rows.start, rows.end))
        obs, action = self.obs[self.learner, start], self.action[self.learner, start]
        return Batch(obs, action, rows.reward, self.obs[self.learner, end], rows.discount)


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
