"""PPO: proximal policy optimisation with a clipped ratio (Schulman et al., arXiv 1707.06347), with the controls that
its users tune as fields and the defaults that continuous control is usually run with.

Letters: S learners, N worlds, T steps, B minibatch, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dsac.algorithms.base import Algorithm, Metrics, Noise
from dsac.data import Transition
from dsac.memory.contract import Memory
from dsac.memory.rollout import Rollout
from dsac.nn.advantages import gae
from dsac.nn.distributions import HALF_LOG_TWO_PI, normal_log_prob
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP
from dsac.nn.normalization import ReturnNormalizer
from dsac.nn.optimizer import Adam
from dsac.schema.algorithm_config import HIGHEST_LOG_STD, LOWEST_LOG_STD, AlgorithmConfig
from dsac.schema.ranges import FIXED, at_least, between, positive, setting
from envs.contract import EnvSpec


@dataclass(frozen=True)
class PPOConfig(AlgorithmConfig):
    """PPO for continuous control: normalised observations and rewards, 2,048 steps a block.

    The first policy's spread, raw advantages and the small value loss were chosen by measurement (CHANGELOG.md).
    """

    name: str = "ppo"
    num_envs: int = 8
    horizon: int = at_least(256, 1, help="steps of each env in a block")
    epochs: int = at_least(10, 1, help="passes over a block")
    minibatch_size: int = at_least(64, 2, help="transitions of one gradient step; divides horizon x num_envs")
    learning_rate: float = positive(3e-4, help="of Adam")
    learning_rate_schedule: str = "linear"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    observation_normalization: bool = True
    reward_normalization: bool = setting(
        True, change=FIXED, help="divide rewards by the deviation of the running discounted return"
    )
    reward_clip: float | None = positive(10.0, help="and clip them; null: never")
    gae_lambda: float = between(0.95, 0.0, 1.0, help="0: one-step advantages, 1: whole returns")
    clip_low: float = between(0.2, 0.0, 1.0, help="the ratio counts down to 1 - clip_low")
    clip_high: float = at_least(0.2, 0.0, help="and up to 1 + clip_high")
    value_coefficient: float = at_least(0.25, 0.0, help="weight of the value loss")
    value_clip: float | None = positive(None, help="keep new values this near to old ones; null: no limit")
    entropy_coefficient: float = at_least(0.0, 0.0, help="weight of the entropy bonus")
    kl_penalty: float = at_least(0.0, 0.0, help="weight of the divergence from the policy that acted")
    kl_adaptive_target: float | None = positive(
        None, help="double or halve kl_penalty to keep the divergence near this; null: fixed"
    )
    target_kl: float | None = positive(
        None, help="stop learning from a block once the divergence passes this; null: never"
    )
    gradient_clip: float | None = positive(0.5, help="largest joint norm of the gradients; null: no limit")
    advantage_normalization: bool = setting(False, help="true: zero mean, unit deviation in each minibatch")
    initial_log_std: float = between(
        -0.5, LOWEST_LOG_STD, HIGHEST_LOG_STD, change=FIXED, help="log standard deviation of the first policy"
    )

    def updates_in(self, env_steps: int) -> float:
        return env_steps * self.epochs / self.minibatch_size

    def rows_per_update(self) -> int:
        return self.minibatch_size

    def steps_per_block(self) -> int:
        return self.horizon

    def problems(self) -> list[str]:
        rows, found = self.horizon * self.num_envs, super().problems()
        if rows % self.minibatch_size:
            found.append(
                f"algo.minibatch_size={self.minibatch_size} does not divide algo.horizon x algo.num_envs = {rows}"
            )
        if self.clip_low == self.clip_high == 0 and self.kl_penalty == 0:
            found.append("algo.clip_low and algo.clip_high are both 0, which forbids every step away from the policy")
        if self.kl_adaptive_target is not None and self.kl_penalty == 0:
            found.append("algo.kl_adaptive_target adapts algo.kl_penalty, which is 0: set it to a start, such as 0.2")
        return found


class Sample(NamedTuple):
    """A transition with what PPO learns from, (T, S, N, ...) in a block, (S, B, ...) in a minibatch.

    obs normalised; action the unclipped draw; log_prob, value by the parameters that acted; advantage, return_.
    """

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    return_: Tensor


class PPO(Algorithm):
    """PPO for S learners side by side."""

    Config = PPOConfig
    acts_with = ("actor.", "log_std", "observations.")
    config: PPOConfig
    random_policy = True
    head = "clip"
    kl_factor: Tensor
    last_kl: Tensor
    stopped: Tensor

    def __init__(self, spec: EnvSpec, config: PPOConfig, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        learners, sizes = self.learners, config.hidden_sizes
        self.horizon = config.horizon
        if config.observation_normalization or config.reward_normalization:
            self.warmup_env_steps = (
                config.horizon * config.num_envs
            )  # the first statistics come from a block of its own
        self.actor = MLP(
            (learners,),
            spec.obs_dim,
            spec.action_dim,
            sizes,
            config.activation,
            config.layer_norm,
            (math.sqrt(2), 0.01),
        )
        self.critic = MLP(
            (learners,), spec.obs_dim, 1, sizes, config.activation, config.layer_norm, (math.sqrt(2), 1.0)
        )
        initialise(self, seeds)
        self.log_std = nn.Parameter(torch.full((learners, 1, spec.action_dim), config.initial_log_std))
        self.first_critic_bias = len(list(self.actor.parameters())) + 1
        self.trained = [*self.actor.parameters(), *self.critic.parameters(), self.log_std]
        self.optimizer = Adam(self.trained, config.learning_rate, epsilon=1e-5)
        self.returns = (
            ReturnNormalizer(learners, config.num_envs, config.gamma) if config.reward_normalization else None
        )
        self.register_buffer("kl_factor", torch.ones(learners))
        self.register_buffer("last_kl", torch.zeros(learners))
        self.register_buffer("stopped", torch.zeros(learners, dtype=torch.bool))

    @property
    def kl_coefficient(self) -> Tensor:
        """What the divergence costs (S,): the penalty of the config times what its adaptation has made of it."""
        return self.config.kl_penalty * self.kl_factor

    def reward_size(self) -> Tensor | None:
        """The deviation of the returns alone (S,), as PPO's users know it; `reward_clip` bounds what is left."""
        return None if self.returns is None else self.returns.std()

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        mean: Tensor = self.actor(self.normalize(obs))
        return mean + self.log_std.exp() * noise

    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, None]:
        return self.act(obs, noise), None

    def critic_network(self) -> MLP:
        return self.critic

    def memory(self, num_envs: int, device: torch.device) -> Memory:
        return Rollout(self.config.epochs, self.config.minibatch_size, self.seeds)

    @torch.no_grad()
    def process(self, block: Transition) -> Sample:
        """Values, log-probabilities and advantages by the very parameters and statistics that acted."""
        c = self.config
        dtype = self.log_std.dtype
        obs, action, reward, next_obs, terminated, truncated, invalid = (
            torch.as_tensor(np.ascontiguousarray(x), device=self.device) for x in block
        )
        obs, action, reward, next_obs = obs.to(dtype), action.to(dtype), reward.to(dtype), next_obs.to(dtype)
        if self.returns is not None:
            reward = reward / self.returns.std()[:, None].to(dtype)
            if c.reward_clip is not None:
                reward = reward.clamp(-c.reward_clip, c.reward_clip)
        obs, next_obs = by_learner(self.normalize, obs), by_learner(self.normalize, next_obs)
        value, next_value = (by_learner(self.critic, x).squeeze(-1) for x in (obs, next_obs))
        log_prob = normal_log_prob(by_learner(self.actor, obs), self.log_std, action)
        advantage = gae(reward * c.reward_scale, value, next_value, terminated, truncated, c.gamma, c.gae_lambda)
        advantage = advantage.masked_fill(
            invalid, 0
        )  # neither the policy nor the value learns from what did not happen
        self.stopped.zero_()
        return Sample(obs, action, log_prob, value, advantage, advantage + value)

    def update(self, batch: Sample, noise: Noise, policy_step: bool) -> Metrics:
        c = self.config
        log_std = self.log_std.expand_as(batch.action)
        log_ratio = normal_log_prob(self.actor(batch.obs), log_std, batch.action) - batch.log_prob
        ratio = log_ratio.exp()
        kl = (ratio - 1 - log_ratio).mean(1)  # (S,), never negative (Schulman 2020, "k3")
        value = self.critic(batch.obs).squeeze(-1)
        entropy = (log_std + 0.5 + HALF_LOG_TWO_PI).sum(-1).mean(1)
        policy_loss = clipped_policy_loss(ratio, batch.advantage, c)
        value_loss = squared_value_loss(value, batch.value, batch.return_, c.value_clip)
        loss = policy_loss + self.kl_coefficient * kl + c.value_coefficient * value_loss
        gradients = torch.autograd.grad((loss - c.entropy_coefficient * entropy).sum(), self.trained)
        frozen = self.freeze_non_finite(loss, gradients[1], gradients[self.first_critic_bias])
        if c.target_kl is not None:
            self.stopped.logical_or_(kl.detach() > c.target_kl)
        self.optimizer.step(clip_by_norm(gradients, c.gradient_clip), self.stopped | frozen)
        self.last_kl.copy_(kl.detach())
        clipped = (ratio < 1 - c.clip_low) | (ratio > 1 + c.clip_high)
        return {
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy.detach(),
            "kl": kl.detach(),
            "clip_fraction": clipped.to(ratio.dtype).mean(1),
            "frozen": frozen.to(ratio.dtype),
            "explained_variance": 1 - (batch.return_ - value.detach()).var(1) / batch.return_.var(1),
        }

    def update_statistics(self, obs: Tensor, reward: Tensor, ended: Tensor) -> None:
        super().update_statistics(obs, reward, ended)
        target = self.config.kl_adaptive_target
        if target is not None:
            factor = torch.where(self.last_kl > 1.5 * target, 2.0, torch.where(self.last_kl < target / 1.5, 0.5, 1.0))
            learned = self.optimizer.count > 0  # in the warm-up nothing has moved the policy yet
            self.kl_factor.mul_(torch.where(learned, factor, 1.0))


def by_learner(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a net of (S, B, ...) to a block: (T, S, N, O) -> (T, S, N, ...)."""
    steps, learners, worlds = x.shape[:3]
    y = net(x.transpose(0, 1).reshape(learners, steps * worlds, -1))
    return y.view(learners, steps, worlds, -1).transpose(0, 1)


def clipped_policy_loss(ratio: Tensor, advantage: Tensor, c: PPOConfig) -> Tensor:
    """The pessimistic surrogate (eq. 7): ratio, advantage (S, B) -> (S,)."""
    if c.advantage_normalization:
        advantage = (advantage - advantage.mean(1, keepdim=True)) / (advantage.std(1, keepdim=True) + 1e-8)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - c.clip_low, 1 + c.clip_high) * advantage).mean(1)


def squared_value_loss(value: Tensor, old_value: Tensor, return_: Tensor, clip: float | None) -> Tensor:
    """Half the squared error, the larger of clipped and unclipped where a clip is given: (S, B) each -> (S,)."""
    error = (value - return_).square()
    if clip is not None:
        near = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, (near - return_).square())
    return 0.5 * error.mean(1)


def clip_by_norm(gradients: Sequence[Tensor], largest: float | None) -> Sequence[Tensor]:
    """Scale each learner's gradients, (S, ...) each, so that their joint norm is at most `largest`."""
    if largest is None:
        return gradients
    norm = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1)
    return [gradient * factor.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients]
