"""The wide columns of a replay on the learner's device, so that a draw sends row numbers instead of rows.

The rings in host memory stay the truth: they are what is saved, and what the rows of a draw are chosen from.

Letters: S learners, N worlds of one learner, R frames of one ring, B batch, O observation, A action.
"""

from __future__ import annotations

import torch

from dsac.data import Batch
from dsac.memory.kernels import Integers, Rings, Rows

DEVICE_SHARE = 0.5


def fit(rings: Rings, device: torch.device) -> bool:
    """Whether observations and actions take less than DEVICE_SHARE of the device's free memory; never on the CPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return rings.obs.nbytes + rings.action.nbytes < DEVICE_SHARE * free


class DeviceRows:
    """Observations (S, N R, O) and actions (S, N R, A) as the rings hold them, on a device."""

    def __init__(self, rings: Rings, device: torch.device) -> None:
        self.rings, self.device = rings, device
        learners, worlds, self.frames, _ = rings.obs.shape
        self.obs = torch.zeros(learners, worlds * self.frames, rings.obs.shape[-1], device=device)
        self.action = torch.zeros(learners, worlds * self.frames, rings.action.shape[-1], device=device)
        self.learner = torch.arange(learners, device=device)[:, None]

    def copy_new_rows(self, before: Integers, after: Integers) -> None:
        """Copy the frames that an add has written: counts of begun frames (S, N) before and after it."""
        first = (before - 1).clip(0)
        first = first.clip(min=after - self.frames)
        longest = int((after - first).max())
        counts = first[..., None] + torch.arange(longest).numpy()
        learner, world, step = (counts < after[..., None]).nonzero()
        frame = counts[learner, world, step] % self.frames
        place = tuple(torch.from_numpy(index).to(self.device) for index in (learner, world * self.frames + frame))
        self.obs[place] = torch.from_numpy(self.rings.obs[learner, world, frame]).to(self.device)
        self.action[place] = torch.from_numpy(self.rings.action[learner, world, frame]).to(self.device)

    def refill(self) -> None:
        """Copy everything, ring by ring."""
        for learner in range(self.obs.shape[0]):
            for mine, ring in ((self.obs, self.rings.obs), (self.action, self.rings.action)):
                mine[learner].copy_(torch.from_numpy(ring[learner]).flatten(0, 1))

    def batch(self, rows: Rows) -> Batch:
        """The batch of drawn rows, tensors (S, B) on the device, start and end as row numbers."""
        start, end = (numbers.view(torch.int32).long() for numbers in (rows.start, rows.end))
        obs, action = self.obs[self.learner, start], self.action[self.learner, start]
        return Batch(obs, action, rows.reward, self.obs[self.learner, end], rows.discount)
