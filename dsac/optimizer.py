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
        """Apply gradients, each shaped like its parameter; skip (S,) bool names the learners that stand still."""
        self.count.add_(1.0 if skip is None else 1.0 - skip.to(self.count.dtype))
        for learner in range(len(self.count)):
            torch._fused_adam_(
                [parameter.detach()[learner] for parameter in self.parameters_of],
                [gradient[learner] for gradient in gradients],
                [self.get_buffer(f"mean_{index}")[learner] for index in range(len(gradients))],
                [self.get_buffer(f"square_{index}")[learner] for index in range(len(gradients))],
                [],
                [self.count[learner]] * len(gradients),
                lr=self.learning_rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=self.epsilon,
                amsgrad=False,
                maximize=False,
                found_inf=None if skip is None else skip[learner].to(torch.float32),
            )

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times the initial one (schedules)."""
        self.learning_rate.fill_(self.initial_learning_rate * factor)
