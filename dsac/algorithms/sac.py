"""SAC: soft actor-critic with twin critics and a learned temperature (Haarnoja et al., arXiv 1812.05905).

Letters: S learners, E critics, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsac.algorithms.base import Metrics, Noise, OffPolicy
from dsac.data import Batch
from dsac.nn.distributions import tanh_normal
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP, Critics, polyak
from dsac.nn.optimizer import Adam
from dsac.schema.algorithm_config import MaximumEntropyConfig
from envs.contract import EnvSpec


@dataclass(frozen=True)
class SACConfig(MaximumEntropyConfig):
    """SAC with the networks and protocol that it is compared with."""

    name: str = "sac"
    delay: int = 1


class SAC(OffPolicy):
    """SAC for S learners side by side."""

    Config = SACConfig
    acts_with = ("actor.", "observations.")
    random_policy = True
    config: SACConfig
    log_alpha: Tensor

    def __init__(self, spec: EnvSpec, config: SACConfig, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        net = config.network()
        self.delay = config.delay
        self.actor = MLP((self.learners,), spec.obs_dim, 2 * spec.action_dim, **net)
        self.critics = Critics(self.learners, 2, spec.obs_dim + spec.action_dim, 1, **net)
        initialise(self, seeds)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(
            torch.full((self.learners,), config.initial_temperature).log(), requires_grad=False
        )
        self.critic_optimizer = Adam(self.critics.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)
        self.temperature_optimizer = Adam([self.log_alpha], config.temperature_learning_rate)
        self.target_entropy = -config.target_entropy_scale * spec.action_dim

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = self.heads(self.normalize(obs))
        return torch.tanh(mean + log_std.exp() * noise)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (self.config.batch_size, self.spec.action_dim)
        return {"policy": shape, "next": shape}

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh: (S, B, O) -> (S, B, A) twice."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        return mean, log_std.clamp(self.config.log_std_min, self.config.log_std_max)

    @torch.no_grad()
    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = tanh_normal(*self.heads(self.normalize(obs)), noise)
        return action, -log_prob * (self.log_alpha.exp() / self.reward_factor())[:, None]

    def critic_network(self) -> Critics:
        return self.critics

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        c, batch = self.config, self.normalized(batch)
        alpha = self.log_alpha.exp()  # the old one, also for the targets

        with torch.no_grad():  # drawn before the actor steps: SAC has no target policy
            next_action, next_log_prob = tanh_normal(*self.heads(batch.next_obs), noise["next"])
            next_value = self.target_critics(batch.next_obs, next_action).squeeze(-1).amin(1)
            target = batch.reward + batch.discount * (next_value - alpha[:, None] * next_log_prob)
        value = self.critics(batch.obs, batch.action).squeeze(-1)
        critic_loss = squared_error(value, target)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critics.parameters()))

        metrics = {
            "q": value.detach().mean((1, 2)) / self.reward_factor(),
            "td_error": (value.detach() - target[:, None]).abs().mean((1, 2)) / self.reward_factor(),
            "temperature": alpha.clone(),
        }
        if policy_step:
            action, log_prob = tanh_normal(*self.heads(batch.obs), noise["policy"])
            actor_value = self.critics(batch.obs, action).squeeze(-1).amin(1)
            actor_loss = (alpha[:, None] * log_prob - actor_value).mean(1)
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
            polyak(self.target_critics, self.critics, c.tau)
        return metrics | {"frozen": skip.to(value.dtype)}


def squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean over B, sum over E of (Q - y)^2: value (S, E, B), target (S, B) -> (S,)."""
    return (value - target[:, None]).square().mean(-1).sum(1)
