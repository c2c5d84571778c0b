"""One gradient step and one look at a block, each run in the mode that is asked for: eager, compile or graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dsac.algorithms.base import Algorithm, Metrics, Noise
from dsac.data import Transition
from dsac.seeding import derived_seed


def accelerated(algorithm: Algorithm, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """A function of tensors and of the algorithm's state, run in a mode; compiled at its first call, unless eager."""
    if mode == "eager":
        return function
    from dsac.compilation import Compiled

    return Compiled(algorithm, function, mode)


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
        self.variants: dict[bool, Callable[..., Metrics]] = {}

    def __call__(self, batch: Any) -> Metrics:
        policy_step = self.count % self.algorithm.delay == 0
        self.count += 1
        if policy_step not in self.variants:
            self.variants[policy_step] = self.variant(type(batch), policy_step)
        return self.variants[policy_step](*batch, *self.draw_noise().values())

    def variant(self, kind: type[Any], policy_step: bool) -> Callable[..., Metrics]:
        """The update with its policy step or without, as a function of the batch's fields and the noise."""
        fields = len(kind._fields)

        def update(*inputs: torch.Tensor) -> Metrics:
            noise = dict(zip(self.noise, inputs[fields:], strict=True))
            return self.algorithm.update(kind(*inputs[:fields]), noise, policy_step)

        return accelerated(self.algorithm, update, self.mode)

    def draw_noise(self) -> Noise:
        """The standard normal draws of one update, each learner's from its own generator."""
        for values in self.noise.values():
            for row, generator in zip(values, self.generators, strict=True):
                torch.randn(row.shape, generator=generator, out=row)
        device = self.algorithm.device
        return {name: values.to(device) for name, values in self.noise.items()}


class StatisticsUpdater:
    """The algorithm's `update_statistics`, called with each block.

    Some sixty small operations: where every step has an update they would take a twentieth of the time, uncompiled.
    """

    def __init__(self, algorithm: Algorithm, mode: str) -> None:
        has_any = algorithm.observations is not None or algorithm.returns is not None
        self.algorithm = algorithm
        self.of_one_step = accelerated(algorithm, algorithm.update_statistics, mode if has_any else "eager")

    def __call__(self, block: Transition) -> None:
        arrays = (block.obs, block.reward, block.terminated | block.truncated)
        inputs = [torch.as_tensor(array, device=self.algorithm.device) for array in arrays]
        # The steps of a longer block would be unrolled by the compiler, and its statistics are taken rarely.
        update = self.of_one_step if len(block.reward) == 1 else self.algorithm.update_statistics
        update(*inputs)
