"""DSAC-T's critic loss: its gradients, its fixed points where they have a closed form, and its scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_algorithm, make_batch, make_noise, make_spec

from dsac.algorithms.dsac_t import DSACTConfig, paper_loss, targets
from dsac.data import Batch

GAMMAS = (0.5, 0.9, 0.95)


def test_paper_loss_has_the_paper_gradients():
    """Catches a weight that is differentiated, a bound on the wrong target, and a sum where a mean belongs."""
    torch.manual_seed(0)
    mean = torch.randn(2, 2, 8, dtype=torch.float64, requires_grad=True)
    sigma = (torch.rand(2, 2, 8, dtype=torch.float64) + 0.2).requires_grad_()
    y_q, y_z = torch.randn(2, 2, 8, dtype=torch.float64) * 3
    m = torch.rand(2, 2, dtype=torch.float64) + 0.3
    loss = paper_loss(mean, sigma, y_q, y_z, m, DSACTConfig())
    assert loss.shape == (2,)
    to_mean, to_sigma = torch.autograd.grad(loss.sum(), (mean, sigma))
    for s, e, b in np.ndindex(2, 2, 8):
        q, sd, w = mean[s, e, b].item(), sigma[s, e, b].item(), m[s, e].item() ** 2 + 0.1
        bounded = min(max(y_z[s, b].item(), q - 3 * m[s, e].item()), q + 3 * m[s, e].item())
        assert to_mean[s, e, b].item() * 8 == pytest.approx(w * (q - y_q[s, b].item()) / (sd**2 + 0.1))
        assert to_sigma[s, e, b].item() * 8 == pytest.approx(w * (sd**2 - (q - bounded) ** 2) / (sd**3 + 0.1))


def test_targets_take_the_critic_with_the_smaller_mean():
    """Catches the minimum of draws instead of means, and a tie that goes to the first critic."""
    reward, discount, entropy = torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(1, 3)
    mean = torch.tensor([[[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]]])
    sigma = torch.tensor([[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]])
    z = torch.tensor([[[2.0, -3.0, 1.0], [-1.0, 1.0, 1.0]]])
    y_q, y_z = targets(reward, discount, mean, sigma, z, entropy)
    assert y_q.tolist() == [[1.0, 4.0, 2.0]]
    assert y_z.tolist() == [[3.0, 6.0, 4.0]]


def test_sigma_average_moves_before_its_use_and_starts_at_the_first_batch():
    """Catches an average that starts at zero (every target clamped to the mean) or lags an update behind."""
    algorithm = make_algorithm("dsac_t")
    first = algorithm.next_sigma_average(torch.full((1, 2, 4), 3.0))
    assert first.tolist() == [[3.0, 3.0]]
    algorithm.sigma_average.copy_(first)
    algorithm.critic_optimizer.count.fill_(1)
    second = algorithm.next_sigma_average(torch.full((1, 2, 4), 5.0))
    torch.testing.assert_close(second, torch.full((1, 2), 3.0 + 0.005 * 2.0))


@pytest.mark.parametrize(
    ("critic_loss", "ratios"),
    [("paper", (1.150, 2.252, 3.096)), ("release_2025", (0.724, 0.862, 0.893))],
)
def test_self_loop_reaches_the_closed_form(critic_loss: str, ratios: tuple[float, ...]):
    """Catches a wrong target of mean or spread: on a self-loop with reward N(0.5, 0.2^2) both are known.

    Three learners carry three discounts. The mean is 0.5 / (1 - gamma); the spread, in units of the reward's, is a
    number for each loss form, since its target is clamped.
    """
    algorithm = make_algorithm(
        "dsac_t", seeds=(0, 1, 2), spec=make_spec(1, 1), critic_loss=critic_loss, hidden_sizes=(8,),
        critic_learning_rate=3e-3, learn_temperature=False, initial_temperature=1e-9, tau=0.35, sigma_average_rate=0.02,
        epsilon=1e-3, batch_size=128, delay=4, actor_learning_rate=1e-12,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    rows = (3, 128)
    obs = torch.ones(*rows, 1)
    discount = torch.tensor(GAMMAS)[:, None].expand(rows)
    spreads, means = [], []
    for step in range(4000):
        if step == 2500:
            algorithm.critic_optimizer.scale_learning_rate(0.1)
        action = algorithm.act(obs, torch.randn(*rows, 1, generator=generator))
        reward = 0.5 + 0.2 * torch.randn(rows, generator=generator)
        noise = {name: torch.randn(3, *shape, generator=generator) for name, shape in algorithm.noise_shapes().items()}
        algorithm.update(Batch(obs, action, reward, obs, discount), noise, step % 4 == 0)
        if step >= 3000:
            output = algorithm.critics(obs, action).detach()
            means.append(output[..., 0].mean((1, 2)))
            spreads.append(torch.nn.functional.softplus(output[..., 1]).mean((1, 2)))
    mean, spread = torch.stack(means).mean(0), torch.stack(spreads).mean(0)
    np.testing.assert_allclose(mean, [0.5 / (1 - gamma) for gamma in GAMMAS], rtol=0.03)
    np.testing.assert_allclose(spread / 0.2, ratios, rtol=0.06)


def test_time_limits_bootstrap_and_terminations_do_not():
    """Catches a discount that is not used: a truncated self-loop is worth r / (1 - gamma), a terminated one r.

    Taking the clock for the end gives the second learner's batches to the first: 1, not 5.
    """
    algorithm = make_algorithm(
        "dsac_t", seeds=(0, 1), spec=make_spec(1, 1), hidden_sizes=(8,), critic_learning_rate=1e-2, epsilon=1e-3,
        learn_temperature=False, initial_temperature=1e-9, tau=0.35, delay=4, batch_size=32, actor_learning_rate=1e-12,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    obs, reward = torch.ones(2, 32, 1), torch.ones(2, 32)
    discount = torch.tensor([0.8, 0.0])[:, None].expand(2, 32)  # learner 0: truncated, learner 1: terminated
    for step in range(1500):
        action = algorithm.act(obs, torch.randn(2, 32, 1, generator=generator))
        noise = {name: torch.randn(2, *shape, generator=generator) for name, shape in algorithm.noise_shapes().items()}
        algorithm.update(Batch(obs, action, reward, obs, discount), noise, step % 4 == 0)
    value = algorithm.critics(obs, action)[..., 0].mean((1, 2))
    np.testing.assert_allclose(value.detach(), [5.0, 1.0], rtol=0.03)


@pytest.mark.parametrize("critic_loss", ["paper", "release_2025"])
def test_relative_epsilon_makes_the_size_of_rewards_cancel(critic_loss: str):
    """Catches an epsilon that stays absolute: with returns normalised, rewards times 100 give the same update."""
    settings = {
        "critic_loss": critic_loss, "epsilon": 1e-3, "epsilon_relative": True, "huber_delta": None,
        "return_normalization": True, "initial_temperature": 0.01,
    }  # fmt: skip
    small, large = (make_algorithm("dsac_t", **settings).double() for _ in range(2))
    for step in range(6):
        batch, noise = make_batch(small, step), make_noise(small, step)
        for algorithm, factor in ((small, 1.0), (large, 100.0)):
            rewards = factor * torch.sin(torch.arange(12.0)).view(3, 1, 4)
            algorithm.returns.update(rewards, torch.zeros(3, 1, 4, dtype=torch.bool))
            algorithm.update(batch._replace(reward=factor * batch.reward), noise, step % 2 == 0)
    for mine, theirs in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_soft_policy_comes_near_the_best_one():
    """Catches a temperature that multiplies the wrong term: the soft objective's gap to its closed-form optimum.

    Reward -(a - 0.3)^2, one step, temperature 0.1: the best density is proportional to exp(r / 0.1) on [-1, 1], and a
    tanh-normal comes within a divergence of 0.018 nats of it.
    """
    alpha = 0.1
    algorithm = make_algorithm(
        "dsac_t", spec=make_spec(1, 1), hidden_sizes=(32, 32), critic_learning_rate=3e-3, actor_learning_rate=3e-3,
        learn_temperature=False, initial_temperature=alpha, tau=0.05, epsilon=1e-3, batch_size=128,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    obs, discount = torch.ones(1, 128, 1), torch.zeros(1, 128)
    for step in range(2500):
        if step == 1500:
            algorithm.actor_optimizer.scale_learning_rate(0.1)
            algorithm.critic_optimizer.scale_learning_rate(0.1)
        action = 2 * torch.rand(1, 128, 1, generator=generator) - 1
        reward = -(action[..., 0] - 0.3).square()
        noise = {name: torch.randn(1, *shape, generator=generator) for name, shape in algorithm.noise_shapes().items()}
        algorithm.update(Batch(obs, action, reward, obs, discount), noise, step % 2 == 0)
    from dsac.nn.distributions import tanh_normal

    many = torch.ones(1, 20_000, 1)
    action, log_prob = tanh_normal(
        *algorithm.heads(algorithm.actor, many), torch.randn(1, 20_000, 1, generator=generator)
    )
    objective = (-(action[..., 0] - 0.3).square() - alpha * log_prob).mean().item()
    grid = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    best = alpha * torch.log(torch.trapezoid(torch.exp(-(grid - 0.3).square() / alpha), grid)).item()
    assert -0.001 < best - objective < 0.05 * alpha
