"""How one update is run: it draws the noise, picks the static variant, and keeps the counter that decides which.

`eager` runs the algorithm's update as it is written.
"""

from __future__ import annotations

from typing import Any

import torch

from dsac.algorithms.base import Algorithm, Metrics
from dsac.data import derived_seed

MODES = ("eager",)


class Updater:
    """Callable on a batch: one gradient step of every learner, metrics (S,) each on the device.

    count: updates done so far; the policy moves on those that are multiples of the algorithm's delay, 0 included.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm, self.count = algorithm, 0
        self.generators = [torch.Generator().manual_seed(derived_seed(seed, "update")) for seed in algorithm.seeds]

    def __call__(self, batch: Any) -> Metrics:
        noise = {
            name: torch.stack([torch.randn(shape, generator=generator) for generator in self.generators]).to(
                self.algorithm.device
            )
            for name, shape in self.algorithm.noise_shapes().items()
        }
        policy_step = self.count % self.algorithm.delay == 0
        self.count += 1
        return self.algorithm.update(batch, noise, policy_step)

    def state_dict(self) -> dict[str, Any]:
        """The counter and the noise generators."""
        return {"count": self.count, "generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the saved counter and generators."""
        self.count = state["count"]
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(torch.as_tensor(saved))
