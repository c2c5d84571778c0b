"""The first parameters of networks, each learner's from its own generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from dsac.nn.networks import EnsembleLinear
from dsac.seeding import derived_seed


def initialise(module: nn.Module, seeds: Sequence[int]) -> None:
    """Draw every linear layer of `module` in the order they were built, learner k from the stream of seeds[k]."""
    for learner, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(derived_seed(seed, "parameters"))
        for layer in module.modules():
            if isinstance(layer, EnsembleLinear):
                initialise_layer(layer, learner, generator)


@torch.no_grad()
def initialise_layer(layer: EnsembleLinear, learner: int, generator: torch.Generator) -> None:
    """Draw the slices of one learner, each by itself.

    Uniform within 1/sqrt(inputs) like torch's Linear, or orthogonal with the layer's gain and zero bias.
    """
    own = layer.weight[learner]
    weights = own.flatten(0, -3) if own.ndim > 2 else own[None]
    biases = layer.bias[learner].reshape(len(weights), -1)
    bound = 1 / math.sqrt(layer.weight.shape[-2])
    for weight, bias in zip(weights, biases, strict=True):
        drawn = torch.empty(weight.shape, dtype=weight.dtype)
        if layer.gain is None:
            weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
            bias.uniform_(-bound, bound, generator=generator)
        else:
            weight.copy_(nn.init.orthogonal_(drawn, layer.gain, generator=generator))
            bias.zero_()
