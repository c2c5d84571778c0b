"""What an algorithm's critics predict, in the task's own units, and the policy whose return they predict.

Letters: S learners, E critics, B rows, O observation, A action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsac.algorithms.base import Algorithm
from dsac.nn.distributions import tanh_normal
from dsac.nn.networks import MLP, Critics


class Prediction(NamedTuple):
    """Mean of the discounted return (S, B), and its standard deviation (S, B) where the critic learns one."""

    mean: Tensor
    sigma: Tensor | None


def critics_of(algorithm: Algorithm) -> Critics | MLP | None:
    """The critics of an algorithm: Critics of (obs, action), an MLP of obs, or None where it has neither."""
    found: Any = getattr(algorithm, "critics", None) or getattr(algorithm, "critic", None)
    return found if isinstance(found, Critics | MLP) else None


@torch.no_grad()
def predict(algorithm: Algorithm, obs: Tensor, action: Tensor) -> Prediction:
    """What follows from raw obs (S, B, O) and action (S, B, A) in [-1, 1]; a critic of obs alone ignores the action.

    Of several critics the one with the smaller mean speaks, as in the targets. Raises ValueError without critics.
    """
    critics = critics_of(algorithm)
    if critics is None:
        raise ValueError(f"{type(algorithm).__name__} has no critics to ask")
    unit = algorithm.reward_factor()[:, None]
    obs = algorithm.normalize(obs)
    if isinstance(critics, MLP):
        return Prediction(critics(obs).squeeze(-1) / unit, None)
    output = critics(obs, action)
    smallest = output[..., :1].argmin(1, keepdim=True)
    mean, *raw = output.gather(1, smallest.expand(-1, -1, -1, output.shape[-1])).squeeze(1).unbind(-1)
    return Prediction(mean / unit, F.softplus(raw[0]) / unit if raw else None)


@torch.no_grad()
def sample_return(algorithm: Algorithm, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
    """An action (S, B, A) of the policy that the critics judge, from raw obs (S, B, O) and normal noise (S, B, A).

    Beside it the reward that a soft critic counts for it, -temperature log pi in the task's units (S, B); None for
    others. A policy without a spread of its own acts without exploration noise.
    """
    output = algorithm.actor(algorithm.normalize(obs))
    if not is_random(algorithm):
        return torch.tanh(output), None
    log_std = getattr(algorithm, "log_std", None)
    if log_std is not None:
        return output + log_std.exp() * noise, None
    mean, log_std = output.chunk(2, -1)
    limits = algorithm.config.log_std_min, algorithm.config.log_std_max
    action, log_prob = tanh_normal(mean, log_std.clamp(*limits), noise)
    log_temperature: Any = algorithm.log_alpha
    temperature: Tensor = log_temperature.exp()
    return action, -log_prob * (temperature / algorithm.reward_factor())[:, None]


def is_random(algorithm: Algorithm) -> bool:
    """Whether the policy has a spread of its own."""
    return hasattr(algorithm, "log_std") or algorithm.actor.output.weight.shape[-1] == 2 * algorithm.spec.action_dim
