"""TD3: twin delayed deterministic policy gradient (Fujimoto et al., arXiv 1802.09477).

Letters: S learners, E critics, B batch, O observation, A action.
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
from dsac.schema.ranges import at_least, positive, setting
from envs.contract import EnvSpec


@dataclass(frozen=True)
class TD3Config(OffPolicyConfig):
    """TD3 with the networks and protocol that it is compared with."""

    name: str = "td3"
    critic_learning_rate: float = positive(1e-4, help="of Adam, for the critics")
    actor_learning_rate: float = positive(1e-4, help="of Adam, for the policy")
    delay: int = at_least(2, 1, help="the policy moves on every so many updates")
    delay_targets: bool = setting(False, help="true: the targets too, as in the paper")
    exploration_noise: float = at_least(0.1, 0.0, help="standard deviation of the noise on actions while collecting")
    target_noise: float = at_least(0.2, 0.0, help="standard deviation of the noise on target actions")
    target_noise_clip: float = at_least(0.5, 0.0, help="and its limit")


class TD3(OffPolicy):
    """TD3 for S learners side by side."""

    Config = TD3Config
    acts_with = ("actor.", "observations.")
    config: TD3Config

    def __init__(self, spec: EnvSpec, config: TD3Config, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        net = config.network()
        self.delay = config.delay
        self.actor = MLP((self.learners,), spec.obs_dim, spec.action_dim, **net)
        self.critics = Critics(self.learners, 2, spec.obs_dim + spec.action_dim, 1, **net)
        initialise(self, seeds)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.critic_optimizer = Adam(self.critics.parameters(), config.critic_learning_rate)
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        action = torch.tanh(self.actor(self.normalize(obs))) + self.config.exploration_noise * noise
        return action.clamp(-1, 1)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"target": (self.config.batch_size, self.spec.action_dim)}

    def critic_network(self) -> Critics:
        return self.critics

    def update(self, batch: Batch, noise: Noise, policy_step: bool) -> Metrics:
        c, batch = self.config, self.normalized(batch)

        with torch.no_grad():
            smoothing = (c.target_noise * noise["target"]).clamp(-c.target_noise_clip, c.target_noise_clip)
            next_action = (torch.tanh(self.target_actor(batch.next_obs)) + smoothing).clamp(-1, 1)
            next_value = self.target_critics(batch.next_obs, next_action).squeeze(-1).amin(1)
            target = batch.reward + batch.discount * next_value
        value = self.critics(batch.obs, batch.action).squeeze(-1)
        critic_loss = squared_error(value, target)
        critic_gradients = torch.autograd.grad(critic_loss.sum(), list(self.critics.parameters()))

        metrics = {
            "q": value.detach().mean((1, 2)) / self.reward_factor(),
            "td_error": (value.detach() - target[:, None]).abs().mean((1, 2)) / self.reward_factor(),
        }
        if policy_step:
            action = torch.tanh(self.actor(batch.obs))
            actor_loss = -self.critics(batch.obs, action)[:, 0, :, 0].mean(1)
            actor_gradients = torch.autograd.grad(actor_loss.sum(), list(self.actor.parameters()))
            self.freeze_non_finite(actor_loss, actor_gradients[1])
            metrics |= {"actor_loss": actor_loss.detach()}
        skip = self.freeze_non_finite(critic_loss, critic_gradients[1])
        if policy_step:
            self.actor_optimizer.step(actor_gradients, skip)
        self.critic_optimizer.step(critic_gradients, skip)
        if policy_step or not c.delay_targets:
            polyak(self.target_critics, self.critics, c.tau)
            polyak(self.target_actor, self.actor, c.tau)
        return metrics | {"frozen": skip.to(value.dtype)}


def squared_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean over B, sum over E of (Q - y)^2: value (S, E, B), target (S, B) -> (S,)."""
    return (value - target[:, None]).square().mean(-1).sum(1)
