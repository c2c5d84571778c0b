"""DDPG: deep deterministic policy gradient (Lillicrap et al., arXiv 1509.02971).

Letters: S learners, B batch, O observation, A action.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsac.algorithms.base import Metrics, Noise, OffPolicy
from dsac.data import Batch
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP, Critics, polyak
from dsac.nn.optimizer import Adam
from dsac.schema.algorithm_config import OffPolicyConfig
from dsac.schema.ranges import at_least, positive
from envs.contract import EnvSpec


@dataclass(frozen=True)
class DDPGConfig(OffPolicyConfig):
    """DDPG with the networks and protocol that it is compared with."""

    name: str = "ddpg"
    critic_learning_rate: float = positive(1e-4, help="of Adam, for the critic")
    actor_learning_rate: float = positive(1e-4, help="of Adam, for the policy")
    exploration_noise: float = at_least(0.1, 0.0, help="standard deviation of the noise on actions while collecting")


class DDPG(OffPolicy):
    """DDPG for S learners side by side."""

    Config = DDPGConfig
    acts_with = ("actor.", "observations.")
    config: DDPGConfig

    def __init__(self, spec: EnvSpec, config: DDPGConfig, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        net = config.network()
        self.actor = MLP((self.learners,), spec.obs_dim, spec.action_dim, **net)
        self.critic = Critics(self.learners, 1, spec.obs_dim + spec.action_dim, 1, **net)
        initialise(self, seeds)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_optimizer = Adam(self.critic.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        action = torch.tanh(self.actor(self.normalize(obs))) + self.config.exploration_noise * noise
        return action.clamp(-1, 1)

    def critic_network(self) -> Critics:
        return self.critic

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        batch = self.normalized(batch)

        with torch.no_grad():
            next_value = self.target_critic(batch.next_obs, torch.tanh(self.target_actor(batch.next_obs)))
            target = batch.reward + batch.discount * next_value[:, 0, :, 0]
        value = self.critic(batch.obs, batch.action)[:, 0, :, 0]
        critic_loss = (value - target).square().mean(1)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critic.parameters()))

        actor_loss = -self.critic(batch.obs, torch.tanh(self.actor(batch.obs)))[:, 0, :, 0].mean(1)
        actor_gradients = torch.autograd.grad(actor_loss.sum(), list(self.actor.parameters()))

        skip = self.freeze_non_finite(critic_loss, critic_gradients[1], actor_loss, actor_gradients[1])
        self.actor_optimizer.step(actor_gradients, skip)
        self.critic_optimizer.step(critic_gradients, skip)
        polyak(self.target_critic, self.critic, self.config.tau)
        polyak(self.target_actor, self.actor, self.config.tau)
        return {
            "q": value.detach().mean(1) / self.reward_factor(),
            "td_error": (value.detach() - target).abs().mean(1) / self.reward_factor(),
            "actor_loss": actor_loss.detach(),
            "frozen": skip.to(value.dtype),
        }
