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


class EachPrediction(NamedTuple):
    """The same of each critic: (S, E, B)."""

    mean: Tensor
    sigma: Tensor | None


@torch.no_grad()
def predict(algorithm: Algorithm, obs: Tensor, action: Tensor) -> Prediction:
    """What follows from raw obs (S, B, O) and action (S, B, A) in [-1, 1]; a critic of obs alone ignores the action.

    Of several critics the one with the smaller mean is taken, as in the targets. Raises ValueError without critics.
    """
    each = predict_each(algorithm, obs, action)
    smallest = each.mean.argmin(1, keepdim=True)
    mean, sigma = (None if value is None else value.gather(1, smallest).squeeze(1) for value in each)
    assert mean is not None
    return Prediction(mean, sigma)


@torch.no_grad()
def predict_each(algorithm: Algorithm, obs: Tensor, action: Tensor) -> EachPrediction:
    """As `predict`, of every critic. Raises ValueError without critics."""
    critics = algorithm.critic_network()
    if critics is None:
        raise ValueError(f"{type(algorithm).__name__} has no critics to ask")
    unit = algorithm.reward_factor()[:, None, None]
    obs = algorithm.normalize(obs)
    if isinstance(critics, MLP):
        return EachPrediction(critics(obs).squeeze(-1)[:, None] / unit, None)
    mean, *raw = critics(obs, action).unbind(-1)
    return EachPrediction(mean / unit, F.softplus(raw[0]) / unit if raw else None)
