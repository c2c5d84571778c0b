"""DSAC: the first distributional soft actor-critic (Duan et al., arXiv 2001.02811), one critic of mean and spread.

What DSAC-T refines is here in its first form: the mean learns from a drawn target, one critic gives its own target,
and the bound on that draw is a constant of the task.

Letters: S learners, B batch, O observation, A action.
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
from dsac.schema.ranges import positive
from envs.contract import EnvSpec


@dataclass(frozen=True)
class DSACv1Config(MaximumEntropyConfig):
    """DSAC as first published: one distributional critic, drawn targets, a constant bound."""

    name: str = "dsac_v1"
    constant_bound: float = positive(
        20.0, help="bound of the error that spreads the return, in units of the scaled return"
    )
    epsilon: float = positive(0.1, help="keeps the divisions by sigma finite")


class DSACv1(OffPolicy):
    """DSAC-v1 for S learners side by side."""

    Config = DSACv1Config
    acts_with = ("actor.", "observations.")
    random_policy = True
    config: DSACv1Config
    log_alpha: Tensor

    def __init__(self, spec: EnvSpec, config: DSACv1Config, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        net = config.network()
        self.delay = config.delay
        self.actor = MLP((self.learners,), spec.obs_dim, 2 * spec.action_dim, **net)
        self.critic = Critics(self.learners, 1, spec.obs_dim + spec.action_dim, 2, **net)
        initialise(self, seeds)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = nn.Parameter(
            torch.full((self.learners,), config.initial_temperature).log(), requires_grad=False
        )
        self.critic_optimizer = Adam(self.critic.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)
        self.temperature_optimizer = Adam([self.log_alpha], config.temperature_learning_rate)
        self.target_entropy = -config.target_entropy_scale * spec.action_dim

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = self.heads(self.actor, self.normalize(obs))
        return torch.tanh(mean + log_std.exp() * noise)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        rows, actions = self.config.batch_size, self.spec.action_dim
        return {"policy": (rows, actions), "target": (rows, actions), "value": (rows,)}

    def heads(self, actor: nn.Module, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh: (S, B, O) -> (S, B, A) twice."""
        mean, log_std = actor(obs).chunk(2, -1)
        return mean, log_std.clamp(self.config.log_std_min, self.config.log_std_max)

    @torch.no_grad()
    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = tanh_normal(*self.heads(self.actor, self.normalize(obs)), noise)
        return action, -log_prob * (self.log_alpha.exp() / self.reward_factor())[:, None]

    def critic_network(self) -> Critics:
        return self.critic

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        c, batch = self.config, self.normalized(batch)
        alpha = self.log_alpha.exp()  # the old one, also for the targets

        with torch.no_grad():
            next_action, next_log_prob = tanh_normal(*self.heads(self.target_actor, batch.next_obs), noise["target"])
            next_mean, next_sigma = mean_and_sigma(self.target_critic(batch.next_obs, next_action))
            draw = next_mean + next_sigma * noise["value"].clamp(-3, 3)
            target = batch.reward + batch.discount * (draw - alpha[:, None] * next_log_prob)
        mean, sigma = mean_and_sigma(self.critic(batch.obs, batch.action))
        critic_loss = distributional_loss(mean, sigma, target, c)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critic.parameters()))

        metrics = {
            "q": mean.detach().mean(1) / self.reward_factor(),
            "sigma": sigma.detach().mean(1) / self.reward_factor(),
            "td_error": (mean.detach() - target).abs().mean(1) / self.reward_factor(),
            "temperature": alpha.clone(),
        }
        if policy_step:
            action, log_prob = tanh_normal(*self.heads(self.actor, batch.obs), noise["policy"])
            value = mean_and_sigma(self.critic(batch.obs, action))[0]
            actor_loss = (alpha[:, None] * log_prob - value).mean(1)
            actor_gradients = torch.autograd.grad(actor_loss.sum(), list(self.actor.parameters()))
            self.freeze_non_finite(actor_loss, actor_gradients[1])
        skip = self.freeze_non_finite(critic_loss, critic_gradients[1])
        if policy_step:
            self.actor_optimizer.step(actor_gradients, skip)
            log_prob = log_prob.detach().mean(1)
            if c.learn_temperature:
                self.temperature_optimizer.step([-(log_prob + self.target_entropy)], skip)
            metrics |= {"entropy": -log_prob, "actor_loss": actor_loss.detach()}
        self.critic_optimizer.step(critic_gradients, skip)
        if policy_step:
            polyak(self.target_critic, self.critic, c.tau)
            polyak(self.target_actor, self.actor, c.tau)
        return metrics | {"frozen": skip.to(mean.dtype)}


def mean_and_sigma(output: Tensor) -> tuple[Tensor, Tensor]:
    """The critic's raw output (S, 1, B, 2) -> mean and standard deviation of the return, (S, B) each."""
    mean, raw = output.squeeze(1).unbind(-1)
    return mean, F.softplus(raw)


def distributional_loss(mean: Tensor, sigma: Tensor, target: Tensor, c: DSACv1Config) -> Tensor:
    """The critic loss, given by its gradients: mean, sigma, target (the draw y) are (S, B) -> (S,), mean over B.

    dL/dQ     = (Q - y) / (sigma^2 + eps)
    dL/dsigma = (sigma^2 - clamp(Q - y, -b, b)^2) / (sigma^3 + eps)
    """
    q, s = mean.detach(), sigma.detach()
    mean_gradient = (q - target) / (s.square() + c.epsilon)
    bounded = (q - target).clamp(-c.constant_bound, c.constant_bound)
    sigma_gradient = (s.square() - bounded.square()) / (s.pow(3) + c.epsilon)
    return (mean * mean_gradient + sigma * sigma_gradient).mean(-1)
