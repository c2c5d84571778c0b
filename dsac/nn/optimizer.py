"""Adam over parameters whose first dimension is the learner, with a step count and a skip mask for each learner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

BETA_MEAN, BETA_SQUARE = 0.9, 0.999
Parts = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]


class Adam(nn.Module):
    """Adam (Kingma & Ba 2015) for S learners; all state is in buffers, and the learning rate, which is none.

    Parameters (S, ...). A learner that skips a step keeps its parameters, moments and count: zero gradients would not
    do, since Adam's momentum moves on. Parameters are updated in place and no value is read back to the host. It takes
    one call of torch's fused kernel a learner; dsac.compilation puts plain operations in its place.
    """

    count: Tensor
    learning_rate: Tensor

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
        self.move(([parameter.detach() for parameter in self.parameters_of], gradients, means, squares), skip)

    def move(self, parts: Parts, skip: Tensor) -> None:
        """Move (parameters, gradients, means, squares) at the learners' step counts, already advanced."""
        parameters, gradients, means, squares = parts
        # The fused kernel walks through memory and takes all four to lie alike.
        alike = [
            gradient if gradient.stride() == mean.stride() else torch.empty_like(mean).copy_(gradient)
            for gradient, mean in zip(gradients, means, strict=True)
        ]
        for learner, count in enumerate(self.count):
            torch._fused_adam_(
                [parameter[learner] for parameter in parameters],
                [gradient[learner] for gradient in alike],
                [mean[learner] for mean in means],
                [square[learner] for square in squares],
                [],
                [count] * len(parameters),
                lr=self.learning_rate,
                beta1=BETA_MEAN,
                beta2=BETA_SQUARE,
                weight_decay=0.0,
                eps=self.epsilon,
                amsgrad=False,
                maximize=False,
                found_inf=skip[learner].to(torch.float32),
            )

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times the initial one (schedules)."""
        self.learning_rate.fill_(self.initial_learning_rate * factor)
