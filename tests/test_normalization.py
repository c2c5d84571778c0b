"""Running statistics against numpy over everything that was shown to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsac.nn.normalization import ObservationNormalizer, ReturnNormalizer, discounted_returns


def test_observations_are_counted_once_and_exactly():
    """Catches a biased merge of blocks, statistics shared between learners, and a forward pass that learns."""
    torch.manual_seed(0)
    normalizer = ObservationNormalizer(2, 3)
    blocks = [torch.randn(steps, 2, 4, 3) * 5 + 100 for steps in (1, 7, 2)]
    for block in blocks:
        normalizer.update(block)
        normalizer(block.transpose(0, 1))
    rows = torch.cat(blocks).transpose(0, 1).flatten(1, 2).double()
    torch.testing.assert_close(normalizer.moments.mean, rows.mean(1))
    torch.testing.assert_close(normalizer.moments.variance(), rows.var(1, unbiased=False))
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, unbiased=False, keepdim=True)
    torch.testing.assert_close(normalizer(rows.float()), expected.float(), rtol=1e-4, atol=1e-4)


def test_observations_are_clipped_and_start_as_they_are():
    """Catches a missing clip, and a first block divided by a deviation of zero."""
    normalizer = ObservationNormalizer(1, 2)
    obs = torch.tensor([[[0.5, -30.0]]])
    assert normalizer(obs).tolist() == [[[0.5, -10.0]]]
    normalizer.update(torch.ones(4, 1, 2, 2))
    assert torch.isfinite(normalizer(obs)).all()


def test_returns_are_cleared_at_episode_ends():
    """Catches a discounted return that runs on into the next episode, and one shared by worlds."""
    normalizer = ReturnNormalizer(1, 2, gamma=0.5)
    reward = torch.tensor([[[1.0, 2.0]], [[1.0, 0.0]], [[4.0, 0.0]]])
    ended = torch.tensor([[[False, True]], [[False, False]], [[False, False]]])
    normalizer.update(reward[:2], ended[:2])
    normalizer.update(reward[2:], ended[2:])
    returns = np.array([[1.0, 2.0], [1.5, 0.0], [4.75, 0.0]])
    assert abs(normalizer.std().item() - returns.std()) < 1e-7
    assert normalizer.largest.item() == 4.75


def block(*rewards: float, worlds: int = 2) -> torch.Tensor:
    """Rewards (T, 1, N), alike in every world."""
    return torch.tensor(rewards)[:, None, None].expand(-1, 1, worlds).clone()


def shown(normalizer: ReturnNormalizer, reward: torch.Tensor) -> None:
    """Show a block in which no episode ends."""
    normalizer.update(reward, torch.zeros_like(reward, dtype=torch.bool))


def test_zeros_say_nothing_of_the_size_of_returns():
    """Catches a size of 1e-4, and with it rewards times 10,000, after a warm-up that earned nothing."""
    normalizer = ReturnNormalizer(1, 2, gamma=0.99)
    shown(normalizer, torch.zeros(5_000, 1, 2))
    assert normalizer.size().item() == pytest.approx(1)
    shown(normalizer, block(5.0))
    assert normalizer.size().item() == pytest.approx(1.0)  # a fifth of the largest


def test_a_spike_does_not_rule():
    """Catches one wrong reward of a million that makes all others small for good."""
    normalizer = ReturnNormalizer(1, 2, gamma=0.9)
    for _ in range(600):
        shown(normalizer, block(1.0, -1.0))
    before = normalizer.size().item()
    shown(normalizer, block(1e6))
    shown(normalizer, block(*[0.0] * 200))  # what is left of it in the running return comes by again
    assert 0.9 * before < normalizer.size().item() < 3 * before


@pytest.mark.parametrize("at", [0, 3, 500])
def test_a_spike_in_the_first_block_does_not_rule(at: int):
    """Catches a bound that needs a past: PPO's first block is its whole warm-up."""
    reward = torch.randn(512, 1, 2, generator=torch.Generator().manual_seed(0))
    plain, spiked = ReturnNormalizer(1, 2, gamma=0.99), ReturnNormalizer(1, 2, gamma=0.99)
    shown(plain, reward)
    reward[at, 0, 1] = -1e6
    shown(spiked, reward)
    assert spiked.size().item() < 3 * plain.size().item()


def test_growing_rewards_are_followed():
    """Catches a bound that keeps the statistics where they were when a task begins to pay more."""
    normalizer = ReturnNormalizer(1, 2, gamma=0.9)
    shown(normalizer, torch.ones(1_000, 1, 2))
    for _ in range(12):
        shown(normalizer, block(*[1000.0] * 5))
    assert normalizer.largest.item() > 1000


def test_the_bound_leaves_everything_that_was_seen_as_it_is():
    """Catches a bound so narrow that it clips rewards, or sums of n of them, of a run in which nothing is wrong."""
    torch.manual_seed(0)
    normalizer = ReturnNormalizer(1, 4, gamma=0.99)
    reward = torch.randn(3_000, 1, 4, dtype=torch.float64) + 0.5
    ended = torch.rand(3_000, 1, 4) < 0.01
    for part, end in zip(reward.split(10), ended.split(10), strict=True):
        normalizer.update(part, end)
    returns, _ = discounted_returns(reward, ended, torch.zeros(1, 4, dtype=torch.float64), 0.99)
    assert normalizer.largest.item() == returns.abs().max().item()
    assert normalizer.bound().item() > reward.abs().max().item()
