"""Adam over parameters whose first dimension is the learner, with a step count and a skip mask for each learner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

BETA_MEAN, BETA_SQUARE = 0.9, 0.999


class Adam(nn.Module):
    """Adam (Kingma & Ba 2015) for S learners; all state is in buffers, and the learning rate, which is none.

    Parameters (S, ...). A learner that skips a step keeps its parameters, moments and count: zero gradients would not
    do, since Adam's momentum moves on. Parameters are updated in place and no value is read back to the host.
    fused: one call of torch's fused kernel a learner; otherwise the same in plain operations over all learners, which
    a compiler fuses with what comes before and after.
    """

    count: Tensor
    learning_rate: Tensor
    fused: bool = True

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.parameters_of = list(parameters)
        self.initial_learning_rate, self.epsilon = learning_rate, epsilon
        learners = self.parameters_of[0].shape[0]
        # Not saved: the config and the progress of the run say what it is, so that one changed on resume takes effect.
        self.register_buffer("learning_rate", torch.tensor(learning_rate, dtype=torch.float64), persistent=False)
        self.register_buffer("count", torch.zeros(learners))
        for index, parameter in enumerate(self.parameters_of):
            self.register_buffer(f"mean_{index}", torch.zeros_like(parameter, requires_grad=False))
            self.register_buffer(f"square_{index}", torch.zeros_like(parameter, requires_grad=False))

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], skip: Tensor) -> None:
        """Apply gradients, each shaped like its parameter; skip (S,) bool names the learners that stand still."""
        self.count.add_(torch.where(skip, 0, 1))
        means = [self.get_buffer(f"mean_{index}") for index in range(len(gradients))]
        squares = [self.get_buffer(f"square_{index}") for index in range(len(gradients))]
        parameters = [parameter.detach() for parameter in self.parameters_of]
        if not self.fused:
            for group in zip(parameters, gradients, means, squares, strict=True):
                self.plain_step(*group, skip)
            return
        # The fused kernel walks through memory and takes all four to lie alike.
        alike = [
            gradient if gradient.stride() == mean.stride() else torch.empty_like(mean).copy_(gradient)
            for gradient, mean in zip(gradients, means, strict=True)
        ]
        for learner, count in enumerate(self.count):
            slices = [[tensor[learner] for tensor in part] for part in (parameters, alike, means, squares)]
            self.fused_step(slices, count, skip[learner])

    def fused_step(self, parts: Sequence[list[Tensor]], count: Tensor, skip: Tensor) -> None:
        """One learner's (parameters, gradients, means, squares) at its step count (), already advanced."""
        parameters, gradients, means, squares = parts
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [count] * len(parameters),
            lr=self.learning_rate,
            beta1=BETA_MEAN,
            beta2=BETA_SQUARE,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
            found_inf=skip.to(torch.float32),
        )

    def plain_step(self, parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, skip: Tensor) -> None:
        """One parameter of all learners at their step counts, already advanced."""
        per_learner = (-1, *[1] * (parameter.ndim - 1))
        count, skip = self.count.view(per_learner), skip.view(per_learner)
        scale = torch.sqrt(1 - BETA_SQUARE**count)
        rate = self.learning_rate.to(self.count.dtype) * scale / (1 - BETA_MEAN**count)
        new_mean = torch.lerp(mean, gradient, 1 - BETA_MEAN)
        new_square = BETA_SQUARE * square + (1 - BETA_SQUARE) * gradient.square()
        moved = parameter - rate * new_mean / (new_square.sqrt() + self.epsilon * scale)
        mean.copy_(torch.where(skip, mean, new_mean))
        square.copy_(torch.where(skip, square, new_square))
        parameter.copy_(torch.where(skip, parameter, moved))

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times the initial one (schedules)."""
        self.learning_rate.fill_(self.initial_learning_rate * factor)
