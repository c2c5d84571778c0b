"""What an algorithm's critics predict, in the task's own units.

Letters: S learners, E critics, B rows, O observation, A action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsac.algorithms.base import Algorithm
from dsac.nn.networks import MLP


class Prediction(NamedTuple):
    """Mean of the discounted return (S, B), and its standard deviation (S, B) where the critic learns one."""

    mean: Tensor
    sigma: Tensor | None


@torch.no_grad()
def predict(algorithm: Algorithm, obs: Tensor, action: Tensor) -> Prediction:
    """What follows from raw obs (S, B, O) and action (S, B, A) in [-1, 1]; a critic of obs alone ignores the action.

    Of several critics the one with the smaller mean is taken, as in the targets. Raises ValueError without critics.
    """
    critics = algorithm.critic_network()
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
