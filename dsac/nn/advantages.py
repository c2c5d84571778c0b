"""Advantages: a pure function on tensors of any float type, time first."""

from __future__ import annotations

import torch


def gae(
    reward: torch.Tensor,
    value: torch.Tensor,
    next_value: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    gamma: float,
    lam: float,
) -> torch.Tensor:
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16), all tensors (T, ...).

    value       V(obs)
    next_value  V(next_obs) of the true successor: a time limit bootstraps from it, a termination does not
    The sum over later steps is cut where an episode ends in either way.
    """
    delta = reward + gamma * next_value.masked_fill(terminated, 0) - value
    ended = terminated | truncated
    advantage = torch.empty_like(delta)
    later = torch.zeros_like(delta[0])
    for step in reversed(range(len(delta))):
        later = delta[step] + gamma * lam * later.masked_fill(ended[step], 0)
        advantage[step] = later
    return advantage
