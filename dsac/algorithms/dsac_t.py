"""DSAC-T: distributional soft actor-critic with three refinements (Duan et al., arXiv 2310.05858).

A critic predicts mean and spread of the soft return. The refinements, each with a switch: expected value substitution
(the mean learns from the expected target, not from a draw), twin value distributions (the critic with the smaller
mean gives the target), and variance-based critic gradients (the bound on the sampled target and the weight of a
sample follow the critic's own spread).

Letters: S learners, E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsac.algorithms.base import Metrics, Noise, OffPolicy
from dsac.data import Batch
from dsac.nn.distributions import tanh_normal
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP, Critics, polyak
from dsac.nn.optimizer import Adam
from dsac.schema.algorithm_config import MaximumEntropyConfig
from dsac.schema.ranges import FIXED, choice, positive, setting, share
from envs.contract import EnvSpec


@dataclass(frozen=True)
class DSACTConfig(MaximumEntropyConfig):
    """DSAC-T with the settings of its authors' released scripts."""

    name: str = "dsac_t"
    critic_loss: str = choice(
        "paper",
        "paper",
        "release_2025",
        help='paper (eq. 20), or release_2025: the authors\' later code, "for complex tasks"',
    )
    expected_value_substitution: bool = setting(True, help="refinement 1: the mean learns from the expected target")
    twin_value_distributions: bool = setting(
        True, change=FIXED, help="refinement 2: two critics, the smaller mean gives the target"
    )
    variance_based_gradients: bool = setting(True, help="refinement 3: bound and weight follow the critic's own spread")
    bound_in_sigmas: float = positive(3.0, help="bound of the drawn target, in average sigmas")
    constant_bound: float = positive(20.0, help="that bound without refinement 3, in units of the scaled return")
    sigma_average_rate: float = share(0.005, help="pace of the moving average of sigma")
    epsilon: float = positive(0.1, help="keeps the divisions by sigma finite")
    epsilon_relative: bool = setting(
        False, help="true: epsilon in units of the average sigma, so that the reward's size cancels"
    )
    huber_delta: float | None = positive(50.0, help="release_2025: errors beyond it count linearly; null: never")


class DSACT(OffPolicy):
    """DSAC-T for S learners side by side."""

    Config = DSACTConfig
    acts_with = ("actor.", "observations.")
    random_policy = True
    config: DSACTConfig
    log_alpha: Tensor
    sigma_average: Tensor

    def __init__(self, spec: EnvSpec, config: DSACTConfig, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        learners, critics = self.learners, 2 if config.twin_value_distributions else 1
        net = config.network()
        self.delay = config.delay
        self.actor = MLP((learners,), spec.obs_dim, 2 * spec.action_dim, **net)
        self.critics = Critics(learners, critics, spec.obs_dim + spec.action_dim, 2, **net)
        initialise(self, seeds)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.full((learners,), config.initial_temperature).log(), requires_grad=False)
        self.register_buffer("sigma_average", torch.zeros(learners, critics))
        self.critic_optimizer = Adam(self.critics.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)
        self.temperature_optimizer = Adam([self.log_alpha], config.temperature_learning_rate)
        self.target_entropy = -config.target_entropy_scale * spec.action_dim

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = self.heads(self.actor, self.normalize(obs))
        return torch.tanh(mean + log_std.exp() * noise)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        rows, actions = self.config.batch_size, self.spec.action_dim
        return {"policy": (rows, actions), "target": (rows, actions), "value": (self.sigma_average.shape[1], rows)}

    def heads(self, actor: nn.Module, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh: (S, B, O) -> (S, B, A) twice."""
        mean, log_std = actor(obs).chunk(2, -1)
        return mean, log_std.clamp(self.config.log_std_min, self.config.log_std_max)

    @torch.no_grad()
    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = tanh_normal(*self.heads(self.actor, self.normalize(obs)), noise)
        return action, -log_prob * (self.log_alpha.exp() / self.reward_factor())[:, None]

    def critic_network(self) -> Critics:
        return self.critics

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        c, batch = self.config, self.normalized(batch)
        alpha = self.log_alpha.exp()  # the old one, also for the targets

        mean, sigma = mean_and_sigma(self.critics(batch.obs, batch.action))
        sigma_average = self.next_sigma_average(sigma)
        with torch.no_grad():
            next_action, next_log_prob = tanh_normal(*self.heads(self.target_actor, batch.next_obs), noise["target"])
            next_mean, next_sigma = mean_and_sigma(self.target_critics(batch.next_obs, next_action))
            z = noise["value"].clamp(-3, 3)
            entropy = -alpha[:, None] * next_log_prob
            target_mean, target_draw = targets(batch.reward, batch.discount, next_mean, next_sigma, z, entropy)
        loss = paper_loss if c.critic_loss == "paper" else release_2025_loss
        critic_loss = loss(mean, sigma, target_mean, target_draw, sigma_average, c)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critics.parameters()))

        metrics = {
            "q": mean.detach().mean((1, 2)) / self.reward_factor(),
            "sigma": sigma.detach().mean((1, 2)) / self.reward_factor(),
            "td_error": (mean.detach() - target_mean[:, None]).abs().mean((1, 2)) / self.reward_factor(),
            "temperature": alpha.clone(),
        }
        if policy_step:
            action, log_prob = tanh_normal(*self.heads(self.actor, batch.obs), noise["policy"])
            value = mean_and_sigma(self.critics(batch.obs, action))[0].amin(1)
            actor_loss = (alpha[:, None] * log_prob - value).mean(1)
            actor_gradients = torch.autograd.grad(actor_loss.sum(), list(self.actor.parameters()))
            self.freeze_non_finite(actor_loss, actor_gradients[1])
        skip = self.freeze_non_finite(critic_loss, critic_gradients[1])
        self.sigma_average.copy_(torch.where(skip[:, None], self.sigma_average, sigma_average))
        if policy_step:
            self.actor_optimizer.step(actor_gradients, skip)
            log_prob = log_prob.detach().mean(1)
            if c.learn_temperature:
                self.temperature_optimizer.step([-(log_prob + self.target_entropy)], skip)
            metrics |= {"entropy": -log_prob, "actor_loss": actor_loss.detach()}
        self.critic_optimizer.step(critic_gradients, skip)
        if policy_step:
            polyak(self.target_critics, self.critics, c.tau)
            polyak(self.target_actor, self.actor, c.tau)
        return metrics | {"frozen": skip.to(mean.dtype)}

    @torch.no_grad()
    def next_sigma_average(self, sigma: Tensor) -> Tensor:
        """The moving average of each critic's spread, sigma (S, E, B) included: (S, E). The first batch sets it."""
        batch_mean = sigma.mean(-1)
        moved = torch.lerp(self.sigma_average, batch_mean, self.config.sigma_average_rate)
        return torch.where(self.critic_optimizer.count[:, None] == 0, batch_mean, moved)


def mean_and_sigma(output: Tensor) -> tuple[Tensor, Tensor]:
    """The critics' raw output (S, E, B, 2) -> mean and standard deviation of the return, (S, E, B) each."""
    mean, raw = output.unbind(-1)
    return mean, F.softplus(raw)


def targets(
    reward: Tensor, discount: Tensor, next_mean: Tensor, next_sigma: Tensor, z: Tensor, entropy: Tensor
) -> tuple[Tensor, Tensor]:
    """The expected target y_q and the drawn target y_z of the critic with the smaller mean (ties: the last critic).

    reward, discount, entropy (-alpha log pi') are (S, B); next_mean, next_sigma, z (S, E, B). Returns (S, B) twice:
    y = r + gamma (1 - terminated) (Q' - alpha log pi'), with Q' the mean, or the draw Q' + sigma' z.
    """
    last = next_mean.shape[1] - 1
    smallest = last - next_mean.flip(1).argmin(1, keepdim=True)
    mean = next_mean.gather(1, smallest).squeeze(1)
    draw = (next_mean + next_sigma * z).gather(1, smallest).squeeze(1)
    return reward + discount * (mean + entropy), reward + discount * (draw + entropy)


def bounded(target_draw: Tensor, mean: Tensor, average: Tensor, c: DSACTConfig) -> Tensor:
    """The drawn target within a bound of each critic's mean (eq. 17): (S, B), (S, E, B), (S, E, 1) -> (S, E, B)."""
    bound = c.bound_in_sigmas * average if c.variance_based_gradients else torch.full_like(average, c.constant_bound)
    return mean + (target_draw[:, None] - mean).clamp(-bound, bound)


def paper_loss(
    mean: Tensor, sigma: Tensor, target_mean: Tensor, target_draw: Tensor, sigma_average: Tensor, c: DSACTConfig
) -> Tensor:
    """The paper's critic loss (eq. 20), given by its gradients.

        dL/dQ     = (m^2 + eps) (Q - y_q) / (sigma^2 + eps)
        dL/dsigma = (m^2 + eps) (sigma^2 - (Q - y_z)^2) / (sigma^3 + eps)

    with y_z bounded to Q +- 3 m and m the moving average of sigma; weight 1 without variance-based gradients. mean,
    sigma (S, E, B); target_mean, target_draw (S, B); sigma_average (S, E) -> (S,), mean over B, sum over E. A relative
    epsilon is in units of m, so that the size of the rewards cancels.
    """
    m = sigma_average[..., None]
    q, s = mean.detach(), sigma.detach()
    unit = m if c.epsilon_relative else torch.ones_like(m)
    draw = bounded(target_draw, q, m, c)
    target = target_mean[:, None] if c.expected_value_substitution else target_draw[:, None]
    weight = m.square() + c.epsilon * unit.square() if c.variance_based_gradients else torch.ones_like(m)
    mean_gradient = weight * (q - target) / (s.square() + c.epsilon * unit.square())
    sigma_gradient = weight * (s.square() - (q - draw).square()) / (s.pow(3) + c.epsilon * unit.pow(3))
    return (mean * mean_gradient + sigma * sigma_gradient).mean(-1).sum(1)


def release_2025_loss(
    mean: Tensor, sigma: Tensor, target_mean: Tensor, target_draw: Tensor, sigma_average: Tensor, c: DSACTConfig
) -> Tensor:
    """The loss of the authors' code since July 2025: a clamped weight and Huber errors. Shapes as in `paper_loss`.

        w (Huber(Q, y_q) + sigma (sigma^2 - Huber(Q, y_z)) / (sigma + eps)),   w = clamp(m^2 / (sigma^2 + eps), 0.1, 10)

    where the fraction's sigmas and w are constants. Huber is d^2 / 2 near zero, so sigma settles at about 0.7 of the
    error's spread. Without variance-based gradients w = 1 / (sigma^2 + eps), which is our choice.
    """
    m = sigma_average[..., None]
    q, s = mean.detach(), sigma.detach()
    unit = m if c.epsilon_relative else torch.ones_like(m)
    draw = bounded(target_draw, q, m, c)
    target = target_mean[:, None] if c.expected_value_substitution else target_draw[:, None]
    precision = 1 / (s.square() + c.epsilon * unit.square())
    weight = (m.square() * precision).clamp(0.1, 10) if c.variance_based_gradients else precision
    sigma_gradient = (s.square() - huber(q - draw, c.huber_delta)) / (s + c.epsilon * unit)
    return (weight * (huber(mean - target, c.huber_delta) + sigma * sigma_gradient)).mean(-1).sum(1)


def huber(error: Tensor, delta: float | None) -> Tensor:
    """d^2 / 2 within delta, delta (|d| - delta / 2) beyond; no bound for None."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta) if delta else error.square() / 2
