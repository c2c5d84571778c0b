"""DSAC-X: distributional soft actor-critic whose critics know their mean and their spread.

DSAC-T's sigma weights the critic's own update; this critic learns that weight and the spread of the return apart:

    j      = argmin_i mu'_i(s', a'),  a' ~ pi(s')
    y      = clip(r + gamma (1 - d) (mu'_j - alpha log pi'), -b, b),   delta_i = y - mu_i
    mean   : w_i Huber(delta_i; kappa_i),  w_i ~ (E[s^2] + e) / (s_i^2 + e),  kappa_i = 3 rms(delta_i)
    error  : log s     + min(delta_i^2 / s^2, 25) / 2
    spread : log sigma + min((delta_i^2 + gamma^2 (1 - d) sigma'_j^2) / sigma^2, 25) / 2
    actor  : alpha log pi - min_i mu_i + k sigma_tot

s is the deviation of one target, the right weight for the mean; sigma that of the whole return, the right measure of
risk. log x + t / (2 x^2) is smallest where x^2 = E[t], whatever the size of t. The second moment follows the variance
recursion of Sherstan et al. (UAI 2018). Both heads read the mean's features without a gradient into them, since a
likelihood with a learned spread harms the mean that shares its features (Seitzer et al., arXiv 2203.09168).
DSAC-T's three refinements (Duan et al., arXiv 2310.05858) are here expected value substitution in both moments, twin
value distributions, and the weight and bound that follow s; each has its switch.

Letters: S learners, E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dsac.algorithms.base import Metrics, Noise, OffPolicy
from dsac.data import Batch
from dsac.nn.distributions import tanh_normal
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP, Critics, polyak
from dsac.nn.optimizer import Adam
from dsac.schema.algorithm_config import MaximumEntropyConfig
from dsac.schema.ranges import FIXED, at_least, between, positive, setting, share
from envs.contract import EnvSpec

FIRST_TD_SIGMA, FIRST_SIGMA = 0.02, 0.05  # in units of the return: growing from below is the fast direction
LOWEST_LOG, HIGHEST_LOG = -8.0, 3.0  # of both deviations
MOST_SQUARES = 25.0  # a target beyond five deviations counts as one at five


@dataclass(frozen=True)
class DSACXConfig(MaximumEntropyConfig):
    """DSAC-X: critics that know their mean and their spread, with settings that learn fast."""

    name: str = "dsac_x"
    n_step: int | None = None
    tau: float = 0.02
    observation_normalization: bool = True
    return_normalization: bool = True
    critic_learning_rate: float = 3e-4
    actor_learning_rate: float = 3e-4
    initial_temperature: float = 0.01
    target_entropy_scale: float = 0.5
    delay: int = 1
    expected_value_substitution: bool = setting(True, help="refinement 1: both moments learn from the expected target")
    twin_value_distributions: bool = setting(
        True, change=FIXED, help="refinement 2: two critics, the smaller mean gives the target"
    )
    variance_based_gradients: bool = setting(
        True, help="refinement 3: weight and bound of the mean's error follow the deviation of its target"
    )
    weight_limit: float = at_least(3.0, 1.0, help="a sample weighs between 1 / limit and limit")
    weight_epsilon: float = positive(0.1, help="keeps the weight finite, in units of the average s^2")
    bound_in_deviations: float | None = positive(
        3.0, help="errors of the mean count up to so many of their deviations; null: without bound"
    )
    average_rate: float = share(0.005, help="pace of the moving averages")
    value_bound: float | None = positive(6.0, help="bound of the targets, in units of the return; null: without bound")
    rescale_heads: bool = setting(
        True, help="where the size of the returns moves, the critics say the same in the new unit"
    )
    spread_size: int = at_least(64, 1, change=FIXED, help="width of the hidden layer of the spreads")
    spread_gradient: float = between(
        0.0, 0.0, 1.0, help="share of the spreads' gradient that reaches the mean's features"
    )
    risk: float = at_least(0.0, 0.0, help="deviations of the return that the policy gives up in mean for less spread")
    risk_grows_for: float = between(0.5, 0.0, 1.0, help="share of the run over which the risk grows from 0")

    def problems(self) -> list[str]:
        found = super().problems()
        if self.value_bound is not None and not self.return_normalization:
            found.append(
                f"algo.value_bound={self.value_bound} is in units of the return, which algo.return_normalization=false "
                "does not measure: set algo.value_bound=null"
            )
        return found


class Spread(NamedTuple):
    """What a critic says of the return: mean, log deviation of one target, log deviation of the return; (S, E, B)."""

    mean: Tensor
    log_td_sigma: Tensor
    log_sigma: Tensor


class SpreadCritics(Critics):
    """E critics of (observation, action) for each of S learners: an MLP for the mean, a small one on its features."""

    def __init__(self, learners: int, critics: int, inputs: int, spread_size: int, **net: Any) -> None:
        super().__init__(learners, critics, inputs, 1, **net)
        self.spread = MLP((learners, critics), net["sizes"][-1], 2, (spread_size,), net["activation"])

    def distribution(self, obs: Tensor, action: Tensor, spread_gradient: float = 0.0) -> Spread:
        """(S, B, O), (S, B, A) -> Spread. spread_gradient: the share of the spreads' gradient that passes further."""
        features = self.net.features(obs.unsqueeze(1), action.unsqueeze(1))
        seen = features.detach()
        if spread_gradient:
            seen = seen + spread_gradient * (features - seen)
        log_td_sigma, log_sigma = self.spread(seen).unbind(-1)
        return Spread(
            self.net.output(features).squeeze(-1),
            (log_td_sigma + math.log(FIRST_TD_SIGMA)).clamp(LOWEST_LOG, HIGHEST_LOG),
            (log_sigma + math.log(FIRST_SIGMA)).clamp(LOWEST_LOG, HIGHEST_LOG),
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """As Critics of two outputs, (S, E, B, 2): the mean, and what softplus makes the deviation of the return."""
        spread = self.distribution(obs, action)
        sigma = spread.log_sigma.exp()
        return torch.stack((spread.mean, sigma + torch.log(-torch.expm1(-sigma))), -1)

    @torch.no_grad()
    def rescale(self, ratio: Tensor) -> None:
        """Say the same in another unit: values times `ratio` (S,), exactly. Adam's averages are left as they are."""
        ratio = ratio.view(-1, 1, 1, 1)
        self.net.output.weight.mul_(ratio)
        self.net.output.bias.mul_(ratio)
        self.spread.output.bias.add_(ratio.log())


class DSACX(OffPolicy):
    """DSAC-X for S learners side by side."""

    Config = DSACXConfig
    acts_with = ("actor.", "observations.")
    random_policy = True
    config: DSACXConfig
    log_alpha: Tensor
    td_sigma_square: Tensor
    error_square: Tensor
    risk: Tensor

    def __init__(self, spec: EnvSpec, config: DSACXConfig, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        learners, critics = self.learners, 2 if config.twin_value_distributions else 1
        net = config.network()
        self.delay = config.delay
        self.actor = MLP((learners,), spec.obs_dim, 2 * spec.action_dim, **net)
        self.critics = SpreadCritics(learners, critics, spec.obs_dim + spec.action_dim, config.spread_size, **net)
        initialise(self, seeds)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.full((learners,), config.initial_temperature).log(), requires_grad=False)
        self.register_buffer("td_sigma_square", torch.zeros(learners, critics))
        self.register_buffer("error_square", torch.zeros(learners, critics))
        self.register_buffer("risk", torch.tensor(0.0), persistent=False)  # follows from the run's progress
        self.critic_optimizer = Adam(self.critics.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)
        self.temperature_optimizer = Adam([self.log_alpha], config.temperature_learning_rate)
        self.target_entropy = -config.target_entropy_scale * spec.action_dim

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = self.heads(self.normalize(obs))
        return torch.tanh(mean + log_std.exp() * noise)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        rows, actions = self.config.batch_size, self.spec.action_dim
        drawn: dict[str, tuple[int, ...]] = {} if self.config.expected_value_substitution else {"value": (rows,)}
        return {"policy": (rows, actions), "target": (rows, actions), **drawn}

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh: (S, B, O) -> (S, B, A) twice."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        return mean, log_std.clamp(self.config.log_std_min, self.config.log_std_max)

    @torch.no_grad()
    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = tanh_normal(*self.heads(self.normalize(obs)), noise)
        return action, -log_prob * (self.log_alpha.exp() / self.reward_factor())[:, None]

    def critic_network(self) -> SpreadCritics:
        return self.critics

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        c, batch = self.config, self.normalized(batch)
        alpha = self.log_alpha.exp()  # the old one, also for the targets

        now = self.critics.distribution(batch.obs, batch.action, c.spread_gradient)
        with torch.no_grad():
            next_action, next_log_prob = tanh_normal(*self.heads(batch.next_obs), noise["target"])
            next_mean, next_sigma = smallest(self.target_critics.distribution(batch.next_obs, next_action))
            soft_mean = next_mean - alpha[:, None] * next_log_prob
            error, second = moments(batch, now.mean, soft_mean, next_sigma, noise.get("value"), c)
            td_sigma_square, error_square = self.next_averages(now.log_td_sigma, error)
        critic_loss = mean_loss(now, error, td_sigma_square, error_square, c) + spread_loss(now, error, second)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critics.parameters()))

        metrics = {
            "q": now.mean.detach().mean((1, 2)) / self.reward_factor(),
            "sigma": now.log_sigma.detach().exp().mean((1, 2)) / self.reward_factor(),
            "td_sigma": now.log_td_sigma.detach().exp().mean((1, 2)) / self.reward_factor(),
            "td_error": error.abs().mean((1, 2)) / self.reward_factor(),
            "temperature": alpha.clone(),
        }
        if policy_step:
            action, log_prob = tanh_normal(*self.heads(batch.obs), noise["policy"])
            value = self.critics.distribution(batch.obs, action, spread_gradient=1.0)
            actor_loss = alpha[:, None] * log_prob - value.mean.amin(1)
            if c.risk:
                actor_loss = actor_loss + self.risk * total_sigma(value)
            actor_loss = actor_loss.mean(1)
            actor_gradients = torch.autograd.grad(actor_loss.sum(), list(self.actor.parameters()))
            self.freeze_non_finite(actor_loss, actor_gradients[1])
        biases = critic_gradients[1], critic_gradients[first_bias_of_spread(self.critics)]
        skip = self.freeze_non_finite(critic_loss, *biases)
        self.td_sigma_square.copy_(torch.where(skip[:, None], self.td_sigma_square, td_sigma_square))
        self.error_square.copy_(torch.where(skip[:, None], self.error_square, error_square))
        if policy_step:
            self.actor_optimizer.step(actor_gradients, skip)
            log_prob = log_prob.detach().mean(1)
            if c.learn_temperature:
                self.temperature_optimizer.step([-(log_prob + self.target_entropy)], skip)
            metrics |= {"entropy": -log_prob, "actor_loss": actor_loss.detach()}
        self.critic_optimizer.step(critic_gradients, skip)
        if policy_step:
            polyak(self.target_critics, self.critics, c.tau)
        return metrics | {"frozen": skip.to(critic_loss.dtype)}

    def next_averages(self, log_td_sigma: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
        """Moving averages (S, E) of s^2 and delta^2, this batch (S, E, B) included; the first batch sets them."""
        first, rate = self.critic_optimizer.count[:, None] == 0, self.config.average_rate
        pairs = (self.td_sigma_square, (2 * log_td_sigma).exp().mean(-1)), (self.error_square, error.square().mean(-1))
        td_sigma_square, error_square = (torch.where(first, new, torch.lerp(old, new, rate)) for old, new in pairs)
        return td_sigma_square, error_square

    def set_progress(self, fraction: float) -> None:
        super().set_progress(fraction)
        grown = min(1.0, fraction / self.config.risk_grows_for) if self.config.risk_grows_for else 1.0
        self.risk.fill_(self.config.risk * grown)

    def update_statistics(self, obs: Tensor, reward: Tensor, ended: Tensor) -> None:
        """As every algorithm; where the size of the returns moves, the critics say the same in the new unit."""
        before = self.reward_factor()
        super().update_statistics(obs, reward, ended)
        if not (self.config.rescale_heads and self.config.return_normalization):
            return
        with torch.no_grad():
            learning = (self.critic_optimizer.count > 0) & ~self.frozen
            ratio = torch.where(learning, self.reward_factor() / before, 1.0)
            self.critics.rescale(ratio)
            self.target_critics.rescale(ratio)
            self.td_sigma_square.mul_(ratio.square()[:, None])
            self.error_square.mul_(ratio.square()[:, None])


def smallest(critics: Spread) -> tuple[Tensor, Tensor]:
    """Mean and deviation (S, B) of the return by the critic with the smaller mean."""
    index = critics.mean.argmin(1, keepdim=True)
    return critics.mean.gather(1, index).squeeze(1), critics.log_sigma.gather(1, index).squeeze(1).exp()


def total_sigma(critics: Spread) -> Tensor:
    """(S, B): deviation of an equal mixture of the critics, sigma_tot^2 = mean sigma_i^2 + variance of mu_i."""
    return ((2 * critics.log_sigma).exp().mean(1) + critics.mean.var(1, unbiased=False)).sqrt()


def moments(
    batch: Batch, mean: Tensor, soft_mean: Tensor, next_sigma: Tensor, z: Tensor | None, c: DSACXConfig
) -> tuple[Tensor, Tensor]:
    """Error of the target of the mean and the second moment about it, (S, E, B) each.

    mean (S, E, B); soft_mean mu' - alpha log pi', next_sigma, z (S, B). With expected value substitution, z None,
    E_z[(y + gamma sigma' z - mu)^2] = delta^2 + gamma^2 sigma'^2 stands in closed form; without it, one draw does.
    """
    target, spread = batch.reward + batch.discount * soft_mean, batch.discount * next_sigma
    if z is not None:
        target, spread = target + spread * z.clamp(-3, 3), torch.zeros_like(spread)
    if c.value_bound is not None:
        target = target.clamp(-c.value_bound, c.value_bound)
    error = target[:, None] - mean
    return error, error.square() + spread.square()[:, None]


def mean_loss(now: Spread, error: Tensor, td_sigma_square: Tensor, error_square: Tensor, c: DSACXConfig) -> Tensor:
    """The loss of the means (S,), given by its gradient: dL/dmu = -w clamp(delta, -kappa, kappa).

    error (S, E, B), averages (S, E); mean over B, sum over E. Weight 1 and no bound without variance-based gradients.
    """
    if c.variance_based_gradients:
        average = td_sigma_square[..., None]
        epsilon = c.weight_epsilon * average
        weight = (average + epsilon) / ((2 * now.log_td_sigma.detach()).exp() + epsilon)
        weight = weight.clamp(1 / c.weight_limit, c.weight_limit)
        weight = weight / weight.mean(-1, keepdim=True)
        if c.bound_in_deviations is not None:
            bound = c.bound_in_deviations * error_square[..., None].sqrt()
            error = error.clamp(-bound, bound)
        error = weight * error
    return -(now.mean * error).mean(-1).sum(1)


def spread_loss(now: Spread, error: Tensor, second: Tensor) -> Tensor:
    """The loss of both deviations (S,), given by its gradient: dL/dlog x = 1 - min(t / x^2, 25)."""
    loss = torch.zeros_like(error)
    for log_deviation, square in ((now.log_td_sigma, error.square()), (now.log_sigma, second)):
        loss = loss + log_deviation * (1 - (square * (-2 * log_deviation.detach()).exp()).clamp(max=MOST_SQUARES))
    return loss.mean(-1).sum(1)


def first_bias_of_spread(critics: SpreadCritics) -> int:
    """Where the first bias of the spreads' network stands among the critics' parameters."""
    return next(index for index, (name, _) in enumerate(critics.named_parameters()) if name == "spread.hidden.0.bias")
