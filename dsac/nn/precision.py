"""The number format of matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from dsac.nn.networks import MLP, EnsembleLinear


def set_precision(module: nn.Module, precision: str) -> None:
    """Take the products of all hidden layers in bfloat16; parameters, outputs and losses keep their own type."""
    for part in module.modules():
        if isinstance(part, MLP):
            for layer in cast("Sequence[EnsembleLinear]", part.hidden):
                layer.precision = torch.bfloat16 if precision == "bfloat16" else None
