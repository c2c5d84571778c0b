"""Networks whose leading dimensions are learners and critics: one batched product a layer, however many there are.

Letters: S learners, E critics of a learner, B rows, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsac.nn.layer_norm import EnsembleLayerNorm

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}
FEW_OUTPUTS = 8


class EnsembleLinear(nn.Module):
    """Independent linear layers side by side, as one batched product.

    Parameters: weight (*leading, inputs, outputs), bias (*leading, 1, outputs). Input (*leading, B, inputs), where
    a leading 1 is broadcast. `gain` is for dsac.nn.initialisation; None: as torch's Linear is initialised. Products are
    taken in `precision`, the rest in the parameters' own type.
    """

    precision: torch.dtype | None = None

    def __init__(self, leading: Sequence[int], inputs: int, outputs: int, gain: float | None = None) -> None:
        super().__init__()
        self.leading, self.gain = tuple(leading), gain
        weight = torch.zeros(*leading, inputs, outputs)
        if outputs < FEW_OUTPUTS:
            weight = weight.mT.contiguous().mT  # in memory the other way round, see `product`
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(*leading, 1, outputs))

    def forward(self, *parts: Tensor) -> Tensor:
        """(*leading, B, inputs), or parts of it side by side along the inputs -> (*leading, B, outputs).

        Parts are not joined, so that a part without a gradient costs none.
        """
        widths = [part.shape[-1] for part in parts]
        weights = torch.split(self.weight, widths, -2) if len(parts) > 1 else [self.weight]
        products = [self.product(part, weight) for part, weight in zip(parts, weights, strict=True)]
        return sum(products[1:], products[0] + self.bias)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x @ weight: (*leading or 1s, B, I), (*leading, I, O) -> (*leading, B, O)."""
        if self.precision is not None:
            y = matrix_product(x.to(self.precision), weight.to(self.precision), self.leading)
            return y.to(self.bias.dtype)
        return matrix_product(x, weight, self.leading)


def matrix_product(x: Tensor, weight: Tensor, leading: tuple[int, ...]) -> Tensor:
    """x @ weight as one batched product, (*leading, B, O).

    With few outputs y.T = weight.T @ x.T is up to five times faster than y = x @ weight, if weight.T is contiguous.
    """
    if not leading:
        return x @ weight
    x, weight = x.expand(*leading, *x.shape[-2:]).flatten(0, -3), weight.flatten(0, -3)
    y = torch.bmm(weight.mT, x.mT).mT if weight.shape[-1] < FEW_OUTPUTS else torch.bmm(x, weight)
    return y.view(*leading, *y.shape[-2:])


class MLP(nn.Module):
    """A multi-layer perceptron per slice: hidden layers [linear, layer norm, activation] and a linear output.

    (*leading, B, inputs) -> (*leading, B, outputs). `gains`: orthogonal gains (hidden, output); None: torch's default.
    """

    def __init__(
        self,
        leading: Sequence[int],
        inputs: int,
        outputs: int,
        sizes: Sequence[int],
        activation: str,
        layer_norm: bool = False,
        gains: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        hidden_gain, output_gain = gains or (None, None)
        widths = [inputs, *sizes]
        self.activation = activation
        self.hidden = nn.ModuleList(EnsembleLinear(leading, a, b, hidden_gain) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(EnsembleLayerNorm(leading, size) for size in sizes) if layer_norm else None
        self.output = EnsembleLinear(leading, widths[-1], outputs, output_gain)

    def forward(self, *parts: Tensor) -> Tensor:
        return cast("Tensor", self.output(self.features(*parts)))

    def features(self, *parts: Tensor) -> Tensor:
        """What the output layer is given: (*leading, B, last hidden size)."""
        activate = ACTIVATIONS[self.activation]
        for index, layer in enumerate(self.hidden):
            x = layer(*parts)
            if self.norms is not None:
                x = self.norms[index](x)
            parts = (activate(x),)
        return parts[0]


class Critics(nn.Module):
    """E critics of (observation, action) for each of S learners.

    (S, B, O), (S, B, A) -> (S, E, B, outputs): one output for a value, two for the mean and the raw spread of a return.
    """

    def __init__(self, learners: int, critics: int, inputs: int, outputs: int, sizes: Sequence[int], **kwargs: Any):
        super().__init__()
        self.net = MLP((learners, critics), inputs, outputs, sizes, **kwargs)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return cast("Tensor", self.net(obs.unsqueeze(1), action.unsqueeze(1)))


@torch.no_grad()
def polyak(targets: nn.Module, online: nn.Module, tau: float) -> None:
    """Move target parameters towards the online ones: target <- target + tau (online - target)."""
    torch._foreach_lerp_(list(targets.parameters()), list(online.parameters()), tau)
