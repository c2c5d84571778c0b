"""One gradient step, one action, one look at a block, each run as dsac.compilation is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dsac.algorithms.base import Algorithm, Metrics, Noise
from dsac.compilation import Outputs, Run, accelerated
from dsac.data import Transition
from dsac.seeding import derived_seed


class Updater:
    """Callable on a batch: one gradient step of every learner, metrics (S,) each on the device.

    It draws the noise, picks the static variant - with a policy step or without - and keeps the counter that decides.
    mode: eager, compile or graph.
    count: updates done so far; the policy moves on those that are multiples of the algorithm's delay, 0 included.
    """

    def __init__(self, algorithm: Algorithm, mode: str = "eager") -> None:
        self.algorithm, self.mode, self.count = algorithm, mode, 0
        self.generators = [torch.Generator().manual_seed(derived_seed(seed, "update")) for seed in algorithm.seeds]
        pinned = algorithm.device.type == "cuda"
        self.noise = {
            name: torch.empty(algorithm.learners, *shape, pin_memory=pinned)
            for name, shape in algorithm.noise_shapes().items()
        }
        self.variants: dict[bool, Run] = {}

    def __call__(self, batch: Any) -> Metrics:
        inputs = (*batch, *self.draw_noise().values())
        policy_step = self.count % self.algorithm.delay == 0
        self.count += 1
        if policy_step not in self.variants:
            self.variants[policy_step] = self.variant(type(batch), len(batch), policy_step, inputs)
        return self.variants[policy_step](*inputs)

    def variant(self, kind: type[Any], fields: int, policy_step: bool, inputs: Sequence[Tensor]) -> Run:
        """The update with its policy step or without, as a function of the batch's fields and the noise."""

        def update(*inputs: Tensor) -> Outputs:
            noise = dict(zip(self.noise, inputs[fields:], strict=True))
            return self.algorithm.update(kind(*inputs[:fields]), noise, policy_step)

        return accelerated(self.algorithm, update, inputs, self.mode)

    def draw_noise(self) -> Noise:
        """The standard normal draws of one update, each learner's from its own generator."""
        for values in self.noise.values():
            for row, generator in zip(values, self.generators, strict=True):
                torch.randn(row.shape, generator=generator, out=row)
        device = self.algorithm.device
        return {name: values.to(device) for name, values in self.noise.items()}

    def state_dict(self) -> dict[str, Any]:
        """The counter and the noise generators."""
        return {"count": self.count, "generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the saved counter and generators."""
        self.count = state["count"]
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(torch.as_tensor(saved).clone())  # a view with an offset crashes torch


class Actor:
    """The algorithm's `act`, run in the same mode as its updates; compiled at the first call."""

    def __init__(self, algorithm: Algorithm, mode: str) -> None:
        self.algorithm, self.mode = algorithm, mode
        self.run: Run | None = None

    def __call__(self, obs: Tensor, noise: Tensor) -> Tensor:
        if self.run is None:
            self.run = accelerated(
                self.algorithm, lambda *inputs: {"action": self.algorithm.act(*inputs)}, (obs, noise), self.mode
            )
        return self.run(obs, noise)["action"]


class StatisticsUpdater:
    """The algorithm's `update_statistics`, called with each block; compiled at the first one if that is one step long.

    Some sixty small operations: where every step has an update they would take a twentieth of the time.
    """

    def __init__(self, algorithm: Algorithm, mode: str) -> None:
        statistics = algorithm.observations is not None or algorithm.returns is not None
        self.algorithm, self.mode = algorithm, mode if statistics else "eager"
        self.run: Run | None = None

    def __call__(self, block: Transition) -> None:
        arrays = (block.obs, block.reward, block.terminated | block.truncated)
        inputs = [torch.as_tensor(array, device=self.algorithm.device) for array in arrays]
        if self.run is None:
            # The steps of a longer block would be unrolled, and its statistics are taken rarely.
            mode = self.mode if len(block.reward) == 1 else "eager"
            self.run = accelerated(self.algorithm, self.update_statistics, inputs, mode)
        self.run(*inputs)

    def update_statistics(self, *inputs: Tensor) -> Outputs:
        self.algorithm.update_statistics(*inputs)
        return {}
