"""Returns and advantages against their definitions, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.nn.advantages import gae
from dsac.nn.normalization import discounted_returns


def naive_gae(reward, value, next_value, terminated, truncated, *, gamma, lam):
    """Equation 16 as a double loop over one world: the sum of (gamma lam)^l delta_(t+l) within the episode."""
    advantage = []
    for t in range(len(reward)):
        total = 0.0
        for later in range(t, len(reward)):
            bootstrap = 0.0 if terminated[later] else gamma * next_value[later]
            total += (gamma * lam) ** (later - t) * (reward[later] + bootstrap - value[later])
            if terminated[later] or truncated[later]:
                break
        advantage.append(total)
    return advantage


@settings(max_examples=100, deadline=None)
@given(
    steps=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    chance=st.sampled_from([0.0, 0.3, 0.9]),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_gae_equals_its_definition(steps, seed, chance, gamma, lam):
    """Catches sums that run across episode ends, and a wrong bootstrap at a termination or a time limit."""
    generator = torch.Generator().manual_seed(seed)
    reward, value, next_value = torch.randn(3, steps, 2, 3, generator=generator, dtype=torch.float64)
    terminated, truncated = torch.rand(2, steps, 2, 3, generator=generator) < chance
    advantage = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    for learner in range(2):
        for world in range(3):
            fields = (each[:, learner, world].tolist() for each in (reward, value, next_value, terminated, truncated))
            expected = torch.tensor(naive_gae(*fields, gamma=gamma, lam=lam), dtype=torch.float64)
            torch.testing.assert_close(advantage[:, learner, world], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("terminated", "expected"), [(True, [1.0, 1.0]), (False, [1.0 + 0.9 * 20, 1.0])])
def test_time_limits_bootstrap_from_the_true_successor(terminated, expected):
    """Catches a time limit taken for a termination, V of the reset obs taken as successor, and a sum not cut."""
    ended, zero = torch.tensor([True, False]), torch.zeros(2)
    flags = (ended, ~ended & ended) if terminated else (~ended & ended, ended)
    advantage = gae(torch.ones(2), zero, torch.tensor([20.0, 0.0]), *flags, 0.9, 1.0)
    torch.testing.assert_close(advantage, torch.tensor(expected))


def test_a_value_that_is_not_finite_beyond_the_end_is_ignored():
    """Catches a termination by multiplication with zero, which leaves NaN where the successor has no value."""
    ended = torch.tensor([True])
    advantage = gae(torch.ones(1), torch.zeros(1), torch.tensor([torch.nan]), ended, ~ended, 0.9, 0.95)
    assert advantage.item() == 1


def test_discounted_returns_equal_their_definition():
    """Catches a return that is cleared one step early or late, or not carried into the next block."""
    generator = torch.Generator().manual_seed(0)
    reward = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    ended = torch.rand(30, 4, generator=generator) < 0.2
    expected = torch.empty_like(reward)
    for world in range(4):
        begin = 0
        for t in range(30):
            expected[t, world] = sum(0.9 ** (t - k) * reward[k, world] for k in range(begin, t + 1))
            begin = t + 1 if ended[t, world] else begin
    carry, parts = torch.zeros(4, dtype=torch.float64), []
    for rewards, ends in zip(reward.split([7, 1, 22]), ended.split([7, 1, 22]), strict=True):
        returns, carry = discounted_returns(rewards, ends, carry, 0.9)
        parts.append(returns)
    torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(carry == 0, ended[-1])
