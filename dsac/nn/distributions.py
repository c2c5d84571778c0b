"""Action distributions as pure functions of their parameters and of noise drawn elsewhere. Letters as in data.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def tanh_normal(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw tanh(mean + std noise) and its log-probability.

    mean, log_std, noise (..., A) -> action (..., A) in (-1, 1), log_prob (...) in nats per unit of [-1, 1]^A.
    The noise itself enters the density, and log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2u)): both
    stay exact where a density recomputed from a saturated action has lost its digits.
    """
    pre_tanh = mean + log_std.exp() * noise
    normal = -0.5 * noise.square() - log_std - HALF_LOG_TWO_PI
    squash = 2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))
    return torch.tanh(pre_tanh), (normal - squash).sum(-1)


def normal_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-density of a diagonal normal: (..., A) each -> (...)."""
    standard = (action - mean) * torch.exp(-log_std)
    return (-0.5 * standard.square() - log_std - HALF_LOG_TWO_PI).sum(-1)
