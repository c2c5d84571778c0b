"""Layer normalisation of networks that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLayerNorm(nn.Module):
    """Layer normalisation with its own gain and offset per slice; (*leading, B, features) to the same."""

    def __init__(self, leading: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*leading, 1, features))
        self.bias = nn.Parameter(torch.zeros(*leading, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)
