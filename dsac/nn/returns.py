"""Returns and advantages: pure functions on tensors of any float type, time first."""

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


def discounted_returns(
    reward: torch.Tensor, ended: torch.Tensor, start: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Running return G_t = gamma G_(t-1) + r_t, as reward normalisation scales by, and the carry for the next block.

    reward, ended  (T, ...); after a step that ended an episode G starts from zero
    start          (...) the carry of the block before, zeros at first
    """
    returns = torch.empty_like(reward)
    running = start
    for step in range(len(reward)):
        returns[step] = gamma * running + reward[step]
        running = returns[step].masked_fill(ended[step], 0)
    return returns, running
