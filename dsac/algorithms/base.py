"""What every algorithm offers the trainer, and what all off-policy ones share.

Letters: S learners, N worlds of one learner, T steps, B batch, O observation, A action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dsac.data import Batch, Transition
from dsac.memory.contract import Memory
from dsac.memory.replay import Replay
from dsac.nn.networks import MLP, Critics
from dsac.nn.normalization import ObservationNormalizer, ReturnNormalizer
from dsac.nn.optimizer import Adam
from dsac.nn.policy import Policy, policy_of
from dsac.schema.algorithm_config import AlgorithmConfig
from envs.contract import EnvSpec

Metrics = dict[str, Tensor]
Noise = dict[str, Tensor]


class Algorithm(nn.Module, ABC):
    """A learner of S policies side by side. Subclasses add networks, `act`, `update` and their Config.

    All state is in parameters and buffers, so that state_dict() is the whole of it. `update` reads nothing back to the
    host and never branches on data: the policy delay is a static argument.

    acts_with      what the names of the tensors that `act` reads begin with: sent to remote collectors
    random_policy  whether the policy that the critics judge draws its actions, see `sample_action`
    """

    Config: ClassVar[type[Any]] = AlgorithmConfig
    frozen: Tensor
    horizon: int = 1
    warmup_env_steps: int = 0
    delay: int = 1
    random_policy: ClassVar[bool] = False
    head: ClassVar[str] = "tanh"
    acts_with: ClassVar[tuple[str, ...]] = ("",)
    returns: ReturnNormalizer | None
    actor: MLP

    def __init__(self, spec: EnvSpec, config: Any, seeds: Sequence[int]) -> None:
        super().__init__()
        self.spec, self.config, self.seeds = spec, config, tuple(seeds)
        self.learners = len(self.seeds)
        self.returns = None  # not on the class, where it would hide the module that an algorithm puts here
        self.observations = (
            ObservationNormalizer(self.learners, spec.obs_dim) if config.observation_normalization else None
        )
        self.register_buffer("frozen", torch.zeros(self.learners, dtype=torch.bool))

    @abstractmethod
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        """What to do while collecting: raw obs (S, N, O), standard normal noise (S, N, A) -> action (S, N, A)."""

    def warmup_act(self, obs: Tensor, noise: Tensor) -> Tensor:
        """What to do before learning: as `act`, unless an algorithm says otherwise."""
        return self.act(obs, noise)

    def sample_action(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """An action (S, B, A) of the policy that the critics judge, from raw obs (S, B, O), standard normal noise.

        Beside it the reward that a soft critic counts for it, -temperature log pi in the task's units (S, B); None for
        others. Unless an algorithm says otherwise, the deterministic policy: `act` without exploration noise.
        """
        return self.act(obs, torch.zeros_like(noise)), None

    def critic_network(self) -> Critics | MLP | None:
        """What predicts returns: Critics of (obs, action), an MLP of obs, or None where there is neither."""
        return None

    def process(self, block: Transition) -> Any:
        """What memory is given of a block: the block itself, unless an algorithm adds to it."""
        return block

    def update_statistics(self, obs: Tensor, reward: Tensor, ended: Tensor) -> None:
        """Move statistics, after the last gradient step on a block: obs (T, S, N, O), reward and ended (T, S, N)."""
        if self.observations is not None:
            self.observations.update(obs)
        if self.returns is not None:
            self.returns.update(reward, ended)

    @abstractmethod
    def memory(self, num_envs: int, device: torch.device) -> Memory:
        """The memory this algorithm learns from."""

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """The standard normal draws that one update takes, by name, without the leading S."""
        return {}

    @abstractmethod
    def update(self, batch: Any, noise: Noise, policy_step: bool) -> Metrics:
        """One gradient step in place; metrics (S,) each."""

    def freeze_non_finite(self, *values: Tensor) -> Tensor:
        """Take out of training, for good, each learner with a non-finite number in its values (S, ...); mask (S,).

        Losses and the gradients of the first biases are enough to look at: backwards through the layers above, a NaN
        or an infinity anywhere in a network reaches them.
        """
        for value in values:
            self.frozen.logical_or_(~torch.isfinite(value.detach().reshape(self.learners, -1).sum(1)))
        return self.frozen

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def normalize(self, obs: Tensor) -> Tensor:
        """(S, ..., O) raw -> what the networks see."""
        return obs if self.observations is None else self.observations(obs)

    def reward_size(self) -> Tensor | None:
        """The size of the returns that rewards are divided by before learning (S,); None where they are not."""
        return None if self.returns is None else self.returns.size()

    def reward_factor(self) -> Tensor:
        """What rewards are multiplied by before learning (S,): reward_scale, over `reward_size` if asked for."""
        factor = torch.full((self.learners,), self.config.reward_scale, device=self.device)
        size = self.reward_size()
        return factor if size is None else (factor / size).to(factor.dtype)

    def set_progress(self, fraction: float) -> None:
        """Move the learning rates along their schedule; fraction of the budget done, 0 to 1."""
        schedule = self.config.learning_rate_schedule
        if schedule == "constant":
            return
        factor = 1 - fraction if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * fraction))
        for module in self.modules():
            if isinstance(module, Adam):
                module.scale_learning_rate(factor)

    def policy(self, learner: int) -> Policy:
        """The deterministic policy of one learner as it is now, on the CPU in float32, its own copy."""
        return policy_of(self.actor, learner, self.spec, self.head, self.observations)


class OffPolicy(Algorithm):
    """What algorithms with a replay share besides their fields: the memory, the warm-up and the size of the rewards."""

    def __init__(self, spec: EnvSpec, config: Any, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        self.warmup_env_steps = config.warmup_env_steps
        self.returns = (
            ReturnNormalizer(self.learners, config.num_envs, config.gamma) if config.return_normalization else None
        )

    def memory(self, num_envs: int, device: torch.device) -> Memory:
        c = self.config
        return Replay(
            capacity=c.replay_capacity,
            num_envs=num_envs,
            obs_dim=self.spec.obs_dim,
            action_dim=self.spec.action_dim,
            batch_size=c.batch_size,
            updates_per_env_step=c.updates_per_env_step,
            gamma=c.gamma,
            n_step=c.n_step,
            seeds=self.seeds,
            device=device,
        )

    def warmup_act(self, obs: Tensor, noise: Tensor) -> Tensor:
        """The initial policy, or uniform actions: the normal distribution function maps the noise onto [-1, 1]."""
        return self.act(obs, noise) if self.config.warmup_actions == "policy" else torch.erf(noise / math.sqrt(2))

    def normalized(self, batch: Batch) -> Batch:
        """The batch as the networks see it: observations normalised, rewards multiplied by reward_factor.

        A reward beyond the bound of what was seen is of the newest block, or a spike that may not rule the critics.
        """
        reward = batch.reward
        if self.returns is not None:
            bound = self.returns.bound()[:, None].to(reward.dtype)
            reward = reward.clamp(-bound, bound)
        return batch._replace(
            obs=self.normalize(batch.obs),
            next_obs=self.normalize(batch.next_obs),
            reward=reward * self.reward_factor()[:, None].to(reward.dtype),
        )
