"""DSAC-X: mean and spread against closed forms, units that move, and what risk does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_algorithm, make_batch, make_noise, make_spec
from torch import Tensor

from dsac.algorithms.dsac_x import DSACXConfig, Spread, total_sigma
from dsac.data import Batch

ROWS, GAMMA = 256, 0.8
PLAIN = {
    "observation_normalization": False,
    "return_normalization": False,
    "value_bound": None,
    "initial_temperature": 1e-6,
    "learn_temperature": False,
    "learning_rate_schedule": "linear",
}
Chain = tuple[Tensor, Tensor, Tensor]


def two_states(generator: torch.Generator) -> Chain:
    """Two states that lead to each other, with rewards N(1, 0.3^2) and N(-0.5, 0.1^2): obs, reward, next_obs."""
    second = torch.rand(ROWS, 1, generator=generator) < 0.5
    draw = torch.randn(ROWS, generator=generator)
    reward = torch.where(second[:, 0], -0.5 + 0.1 * draw, 1 + 0.3 * draw)
    return second.float(), reward, (~second).float()


def linear_gaussian(generator: torch.Generator) -> Chain:
    """s' = 0.7 s + N(0, 0.5^2) from its stationary distribution, reward s: obs, reward, next_obs."""
    obs = 0.5 / (1 - 0.7**2) ** 0.5 * torch.randn(ROWS, 1, generator=generator)
    return obs, obs[:, 0], 0.7 * obs + 0.5 * torch.randn(ROWS, 1, generator=generator)


def of_two_states(obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the return, deviation of one target and sigma of the return from each state."""
    both = 1 - GAMMA**2
    mean = torch.where(obs > 0.5, -0.5 + GAMMA * 1, 1 - GAMMA * 0.5) / both
    noise = torch.where(obs > 0.5, 0.1, 0.3)
    other = torch.where(obs > 0.5, 0.3, 0.1)
    variance = (noise**2 + GAMMA**2 * other**2) / (1 - GAMMA**4)
    return mean, noise, variance.sqrt()


def of_linear_gaussian(obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As above: G = (s + sum_k gamma^k w_k) / (1 - 0.7 gamma)."""
    unit = 1 - 0.7 * GAMMA
    noise = torch.full_like(obs, 0.5 * GAMMA / unit)
    return obs / unit, noise, noise / (1 - GAMMA**2) ** 0.5


@pytest.mark.parametrize("expected_value_substitution", [True, pytest.param(False, marks=pytest.mark.faults)])
@pytest.mark.parametrize(
    ("chain", "truth", "states"),
    [
        pytest.param(two_states, of_two_states, [0.0, 1.0], id="two states"),
        pytest.param(
            linear_gaussian, of_linear_gaussian, [-1.0, -0.5, 0.5, 1.0], id="linear gaussian", marks=pytest.mark.faults
        ),
    ],
)
def test_mean_and_spread_reach_the_closed_form(
    chain: Callable[[torch.Generator], Chain],
    truth: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    states: list[float],
    expected_value_substitution: bool,
):
    """Catches a spread that is one step's noise, gamma for gamma^2, the wrong critic's sigma, a mean that is pulled.

    Within 2%; where a draw takes the place of the expected target its variance is part of the error of the mean, so
    that s is the spread, and the spread falls short by what the clamp of the draw cuts off.
    """
    algorithm = make_algorithm(
        "dsac_x", spec=make_spec(1, 1), hidden_sizes=(64, 64), spread_size=32, batch_size=ROWS,
        critic_learning_rate=2e-3, actor_learning_rate=1e-6, expected_value_substitution=expected_value_substitution,
        delay=4, tau=0.2, **PLAIN,
    )  # fmt: skip
    generator, steps = torch.Generator().manual_seed(1), 3000
    for step in range(steps):
        algorithm.set_progress(step / steps)
        obs, reward, next_obs = chain(generator)
        action = 2 * torch.rand(ROWS, 1, generator=generator) - 1
        batch = Batch(*(field[None] for field in (obs, action, reward, next_obs, torch.full((ROWS,), GAMMA))))
        noise = {name: torch.randn(1, *shape, generator=generator) for name, shape in algorithm.noise_shapes().items()}
        algorithm.update(batch, noise, step % 4 == 0)
    obs = torch.tensor(states)[:, None].repeat_interleave(64, 0)
    action = 2 * torch.rand(1, len(obs), 1, generator=generator) - 1
    with torch.no_grad():
        spread = algorithm.critics.distribution(obs[None], action)
    mean, td_sigma, sigma = (value[0].mean(0).unflatten(0, (len(states), 64)).mean(1) for value in (
        spread.mean, spread.log_td_sigma.exp(), spread.log_sigma.exp()
    ))  # fmt: skip
    expected = truth(torch.tensor(states))
    scale = expected[0].abs().max()
    np.testing.assert_allclose(mean, expected[0], atol=0.02 * scale)
    np.testing.assert_allclose(sigma, expected[2], rtol=0.02 if expected_value_substitution else 0.04)
    if expected_value_substitution:
        np.testing.assert_allclose(td_sigma, expected[1], rtol=0.04)


def spread_of(algorithm: Any, obs: Tensor, action: Tensor, target: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation of a target and sigma (S, E, B) in the task's own units."""
    critics = algorithm.target_critics if target else algorithm.critics
    with torch.no_grad():
        spread = critics.distribution(algorithm.normalize(obs), action)
    unit = algorithm.reward_factor().view(-1, 1, 1)
    return spread.mean / unit, spread.log_td_sigma.exp() / unit, spread.log_sigma.exp() / unit


def test_what_the_critics_say_survives_a_new_unit():
    """Catches a head, a target or a sign left out where the size of the returns moves: in task units all stays."""
    algorithm = make_algorithm("dsac_x", seeds=(0, 1), observation_normalization=False)
    statistics = np.random.default_rng(0)
    ended = torch.zeros(50, 2, 4, dtype=torch.bool)
    obs = torch.zeros(50, 2, 4, algorithm.spec.obs_dim)
    algorithm.update_statistics(obs, torch.tensor(statistics.normal(size=(50, 2, 4)) + 1).float(), ended)
    batch = make_batch(algorithm, 0, torch.float32)
    algorithm.update(batch, make_noise(algorithm, 0, torch.float32), True)
    sides = (False, True)
    before = [spread_of(algorithm, batch.obs, batch.action, side) for side in sides]
    size = algorithm.reward_size()
    algorithm.update_statistics(obs, torch.tensor(9 * statistics.normal(size=(50, 2, 4)) + 4).float(), ended)
    assert (algorithm.reward_size() > 2 * size).all()
    after = [spread_of(algorithm, batch.obs, batch.action, side) for side in sides]
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old, new, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_risk_grows_and_reaches_the_actor_through_the_features():
    """Catches a risk that is there from the start, never ends to grow, or is cut off by the detached features."""
    algorithm = make_algorithm("dsac_x", risk=2.0, risk_grows_for=0.25)
    grown = []
    for fraction in (0.0, 0.125, 0.25, 1.0):
        algorithm.set_progress(fraction)
        grown.append(algorithm.risk.item())
    assert grown == [0.0, 1.0, 2.0, 2.0]

    batch = make_batch(algorithm, 0, torch.float32)
    action = batch.action.requires_grad_(True)
    spread = algorithm.critics.distribution(batch.obs, action, spread_gradient=1.0)
    (gradient,) = torch.autograd.grad(spread.log_sigma.sum(), action)
    assert gradient.abs().max() > 0


def test_the_spreads_leave_the_features_of_the_mean_alone():
    """Catches a likelihood that moves the trunk: without its share no gradient arrives there, with it some does."""
    algorithm = make_algorithm("dsac_x")
    batch = make_batch(algorithm, 0, torch.float32)
    trunk = list(algorithm.critics.net.hidden.parameters())
    for share, moves in ((0.0, False), (0.1, True)):
        spread = algorithm.critics.distribution(batch.obs, batch.action, share)
        gradients = torch.autograd.grad(spread.log_sigma.sum() + spread.log_td_sigma.sum(), trunk, allow_unused=True)
        assert any(one is not None and one.abs().max() > 0 for one in gradients) == moves


def test_total_sigma_counts_the_disagreement_of_the_critics():
    """Catches the sum or the smaller of both spreads: an equal mixture of N(0, 1) and N(2, 3^2) has variance 6."""
    mean = torch.tensor([0.0, 2.0]).view(1, 2, 1)
    log_sigma = torch.tensor([1.0, 3.0]).log().view(1, 2, 1)
    torch.testing.assert_close(total_sigma(Spread(mean, log_sigma, log_sigma)), torch.full((1, 1), 6.0**0.5))


def test_a_bound_of_the_value_needs_the_size_of_the_returns():
    """Catches a bound of 6 on returns of thousands."""
    (line,) = DSACXConfig(return_normalization=False).problems()
    assert "algo.value_bound=6.0" in line
    assert "algo.value_bound=null" in line
    assert not DSACXConfig(return_normalization=False, value_bound=None).problems()
