"""Running statistics of observations and returns. They move only when told to, never in a forward pass.

Letters: S learners, N worlds, T steps, O observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Count, mean and sum of squared deviations of all that was seen, per learner, in float64.

    count (S,), mean (S, *shape), m2 (S, *shape); merged block by block (Chan, Golub & LeVeque 1979).
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(self, learners: int, *shape: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(learners, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(learners, *shape, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(learners, *shape, dtype=torch.float64))

    @torch.no_grad()
    def merge(self, rows: Tensor) -> None:
        """Count rows (S, R, *shape) once."""
        rows = rows.double()
        number = rows.shape[1]
        mean = rows.mean(1)
        m2 = (rows - mean.unsqueeze(1)).square().sum(1)
        before = self.count.reshape(-1, *[1] * (mean.ndim - 1))
        after = before + number
        delta = mean - self.mean
        self.mean.add_(delta * (number / after))
        self.m2.add_(m2 + delta.square() * (before * number / after))
        self.count.add_(number)

    def variance(self) -> Tensor:
        """(S, *shape), 1 before anything was seen."""
        count = self.count.reshape(-1, *[1] * (self.mean.ndim - 1))
        return torch.where(count > 0, self.m2 / count.clamp(min=1), torch.ones_like(self.m2))


class ObservationNormalizer(nn.Module):
    """clip((obs - mean) / std, -clip, clip) with statistics of every observation collected, counted once.

    (S, ..., O) -> (S, ..., O). One set per learner serves actor, critics, targets and the exported policy.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, learners: int, obs_dim: int, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.clip, self.epsilon = clip, epsilon
        self.moments = RunningMoments(learners, obs_dim)
        self.register_buffer("mean", torch.zeros(learners, obs_dim))
        self.register_buffer("inverse_std", torch.ones(learners, obs_dim))

    @torch.no_grad()
    def update(self, obs: Tensor) -> None:
        """Count the observations of a block (T, S, N, O)."""
        self.moments.merge(obs.transpose(0, 1).flatten(1, 2))
        self.mean.copy_(self.moments.mean)
        self.inverse_std.copy_((self.moments.variance() + self.epsilon).rsqrt())

    def forward(self, obs: Tensor) -> Tensor:
        shape = (obs.shape[0], *[1] * (obs.ndim - 2), obs.shape[-1])
        return ((obs - self.mean.view(shape)) * self.inverse_std.view(shape)).clamp(-self.clip, self.clip)


class ReturnNormalizer(nn.Module):
    """The size of the running discounted return G_t = gamma G_{t-1} + r_t of each world, cleared at episode ends.

    std (S,), largest (S,): the largest |G| seen. Rewards are stored raw and divided by a scale made of these.

    Neither zeros nor a spike may ruin it. Until something other than zero was seen the size is 1. And no reward can
    exceed twice the largest |G| that it belongs to, since r_t = G_t - gamma G_{t-1}, nor can a sum of n of them: what
    does was not seen yet, and counts as that much. So one reward, however large, moves `largest` by a factor of 3 at
    most, while a task whose rewards do grow is followed from block to block. In the first SETTLED steps there is no
    such measure yet, and a reward counts as TYPICAL times the mean of the others in its block at most.
    """

    SETTLED = 1_000  # steps
    TYPICAL = 100  # what a stream of typical rewards comes to at a discount of 0.99
    running: Tensor
    largest: Tensor

    def __init__(self, learners: int, num_envs: int, gamma: float, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.gamma, self.epsilon = gamma, epsilon
        self.moments = RunningMoments(learners)
        self.register_buffer("running", torch.zeros(learners, num_envs, dtype=torch.float64))
        self.register_buffer("largest", torch.zeros(learners, dtype=torch.float64))

    @torch.no_grad()
    def update(self, reward: Tensor, ended: Tensor) -> None:
        """Count the rewards of a block, reward (T, S, N) and ended (T, S, N)."""
        reward = reward.double()
        settled = (self.moments.count >= self.SETTLED) & (self.largest > 0)
        bound = torch.where(settled, self.bound(), self.TYPICAL * mean_of_others(reward))[:, None]
        returns, running = discounted_returns(reward.clamp(-bound, bound), ended, self.running, self.gamma)
        self.running.copy_(running)
        rows = returns.transpose(0, 1).flatten(1)
        self.moments.merge(rows)
        self.largest.copy_(torch.maximum(self.largest, rows.abs().amax(1)))

    def bound(self) -> Tensor:
        """What no reward that was seen exceeds in size (S,), nor a discounted sum of them within an episode."""
        return 2 * self.largest

    def std(self) -> Tensor:
        """Standard deviation of G (S,), 1 before anything but zeros was seen."""
        variance = torch.where(self.largest > 0, self.moments.variance(), 1.0)
        return (variance + self.epsilon).sqrt()

    def size(self) -> Tensor:
        """max(std, largest / 5) (S,): the largest return stays near 5 also where returns hardly vary."""
        return torch.maximum(self.std(), self.largest / 5)


def mean_of_others(reward: Tensor) -> Tensor:
    """The mean size of each learner's rewards (T, S, N) but zeros and the largest one (S,); infinite without any."""
    size = reward.abs().transpose(0, 1).flatten(1)
    others = (size > 0).sum(1) - 1
    return torch.where(others > 0, (size.sum(1) - size.amax(1)) / others.clamp(min=1), torch.inf)


def discounted_returns(reward: Tensor, ended: Tensor, start: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
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
