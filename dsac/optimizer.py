"""Adam over parameters whose first dimension is the learner, with a step count and a skip mask for each learner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Adam(nn.Module):
    """Adam (Kingma & Ba 2015) in one fused call a learner; all state is in buffers, the learning rate too.

    Parameters (S, ...). A learner that skips a step keeps its parameters, moments and count: zero gradients would not
    do, since Adam's momentum moves on. Parameters are updated in place and no value is read back to the host.
    """

    count: Tensor
    learning_rate: Tensor

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.parameters_of = list(parameters)
        self.initial_learning_rate, self.epsilon = learning_rate, epsilon
        learners = self.parameters_of[0].shape[0]
        self.register_buffer("learning_rate", torch.tensor(learning_rate, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(learners))
        for index, parameter in enumerate(self.parameters_of):
            self.register_buffer(f"mean_{index}", torch.zeros_like(parameter, requires_grad=False))
            self.register_buffer(f"square_{index}", torch.zeros_like(parameter, requires_grad=False))

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], skip: Tensor | None = None) -> None:
        """Apply gradients, each shaped like its parameter; skip (S,) bool names the learners that stand still.

        Whoever ever skips must always pass a mask: without one all learners are taken to be equally far.
        """
        parts = (
            [parameter.detach() for parameter in self.parameters_of],
            list(gradients),
            [self.get_buffer(f"mean_{index}") for index in range(len(gradients))],
            [self.get_buffer(f"square_{index}") for index in range(len(gradients))],
        )
        if skip is None:
            self.count.add_(1)
            self.fused_step(parts, self.count[0], None)
            return
        self.count.add_(1 - skip.to(self.count.dtype))
        for learner, count in enumerate(self.count):
            slices = [[tensor[learner] for tensor in part] for part in parts]
            self.fused_step(slices, count, skip[learner].to(torch.float32))

    def fused_step(self, parts: Sequence[list[Tensor]], count: Tensor, skip: Tensor | None) -> None:
        """One fused call over (parameters, gradients, means, squares) at the step count (), already advanced."""
        parameters, gradients, means, squares = parts
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [count] * len(parameters),
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
            found_inf=skip,
        )

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times the initial one (schedules)."""
        self.learning_rate.fill_(self.initial_learning_rate * factor)
