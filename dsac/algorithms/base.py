"""What every algorithm offers the trainer, and the few fields that all off-policy ones share.

Letters: S learners, N worlds of one learner, T steps, B batch, O observation, A action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from dsac.data import Batch, Transition
from dsac.memory.frame_log import Frames
from dsac.memory.replay import Replay
from dsac.nn.networks import MLP, Critics, EnsembleLinear, initialise
from dsac.nn.normalization import ObservationNormalizer, ReturnNormalizer
from dsac.nn.optimizer import Adam
from dsac.nn.policy import Policy, slice_of
from dsac.schema.ranges import FIXED, at_least, between, choice, out_of_order, positive, setting, share
from dsac.seeding import derived_seed
from envs.contract import EnvSpec

# Of a policy's log standard deviation: at e^2 before tanh nearly every action lies at a limit, and the square of e^-40
# is still a float32.
LOWEST_LOG_STD, HIGHEST_LOG_STD = -40.0, 2.0
Metrics = dict[str, Tensor]
Noise = dict[str, Tensor]


class Memory(Protocol):
    """What takes blocks in and gives batches out; it knows no algorithm. One of your own derives from this class."""

    @property
    def frames(self) -> Frames | None:
        """What a replay remembers, saved a part at a time; None where `state_dict` holds all there is."""
        return None

    def describe(self) -> str:
        """What it is, for the line that a run begins with."""
        return type(self).__name__.lower()

    def add(self, block: Any, counts: bool = True) -> None: ...
    def batches(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class AlgorithmConfig:
    """Fields that every algorithm has."""

    name: str = setting(change=FIXED, help="the algorithm")
    num_envs: int = at_least(20, 1, change=FIXED, help="envs stepped together")
    gamma: float = between(0.99, 0.0, 1.0, help="discount per step")
    hidden_sizes: tuple[int, ...] = setting(
        (256, 256, 256), change=FIXED, help="widths of the hidden layers, actor and critics"
    )
    activation: str = choice(
        "gelu", "gelu", "relu", "silu", "tanh", change=FIXED, help="gelu (exact), relu, silu or tanh"
    )
    layer_norm: bool = setting(False, change=FIXED, help="layer normalisation before each activation")
    learning_rate_schedule: str = choice(
        "constant", "constant", "linear", "cosine", help="constant, linear or cosine, to zero at the end of the budget"
    )
    observation_normalization: bool = setting(
        False, change=FIXED, help="running mean and deviation of what was collected, clipped at 10"
    )
    reward_scale: float = positive(1.0, help="multiplies rewards, in training only")
    off_policy: ClassVar[bool] = False

    def updates_in(self, env_steps: int) -> float:
        """Gradient steps that a budget of env steps brings; 0 where that is not known."""
        return 0.0

    def rows_per_update(self) -> int:
        """Rows of one learner in a batch; 1 where that is not known."""
        return 1

    def steps_per_block(self) -> int:
        """Steps that each environment takes between two rounds of updates."""
        return 1

    def problems(self) -> list[str]:
        """Contradictions between fields, one line each."""
        return out_of_order(self, "algo")


@dataclass(frozen=True)
class OffPolicyConfig(AlgorithmConfig):
    """Fields that every algorithm with a replay has."""

    off_policy: ClassVar[bool] = True

    updates_per_env_step: float = positive(0.05, help="gradient steps per env step: one per step of 20 envs")
    batch_size: int = at_least(256, 1, help="transitions of one gradient step")
    replay_capacity: int = at_least(1_000_000, 1, change=FIXED, help="transitions kept")
    warmup_env_steps: int = at_least(10_000, 1, change=FIXED, help="collected before learning, outside the budget")
    warmup_actions: str = choice(
        "policy", "policy", "uniform", change=FIXED, help="policy (the initial one) or uniform"
    )
    n_step: int = at_least(1, 1, help="rewards summed before bootstrapping")
    tau: float = share(0.005, help="pace of the target networks")
    return_normalization: bool = setting(
        False, change=FIXED, help="divide rewards by the size of the running discounted return"
    )

    def updates_in(self, env_steps: int) -> float:
        return env_steps * self.updates_per_env_step

    def rows_per_update(self) -> int:
        return self.batch_size

    def problems(self) -> list[str]:
        found = super().problems()
        if self.n_step * self.num_envs > self.replay_capacity:
            found.append(
                f"algo.replay_capacity={self.replay_capacity} holds no algo.n_step={self.n_step} steps of each of "
                f"algo.num_envs={self.num_envs} worlds"
            )
        if self.warmup_env_steps > self.replay_capacity:
            found.append(
                f"algo.warmup_env_steps={self.warmup_env_steps} exceeds algo.replay_capacity={self.replay_capacity}"
            )
        if self.batch_size > self.warmup_env_steps:
            found.append(f"algo.batch_size={self.batch_size} exceeds algo.warmup_env_steps={self.warmup_env_steps}")
        return found


@dataclass(frozen=True)
class MaximumEntropyConfig(OffPolicyConfig):
    """Fields that every off-policy algorithm has that learns a temperature."""

    n_step: int = setting(1, help="rewards summed before bootstrapping; above 1 the entropy between is left out")
    critic_learning_rate: float = positive(1e-4, help="of Adam, for the critics")
    actor_learning_rate: float = positive(1e-4, help="of Adam, for the policy")
    temperature_learning_rate: float = positive(3e-4, help="of Adam, for the temperature")
    initial_temperature: float = positive(2.718281828459045, change=FIXED, help="weight of the entropy at the start")
    learn_temperature: bool = setting(True, help="false: it stays at its initial value")
    target_entropy_scale: float = at_least(1.0, 0.0, help="times -(number of actions): the entropy aimed at")
    delay: int = at_least(2, 1, help="policy, temperature and targets move on every so many updates")
    log_std_min: float = between(
        -20.0, LOWEST_LOG_STD, HIGHEST_LOG_STD, below="log_std_max", help="of the policy's log standard deviation"
    )
    log_std_max: float = between(0.5, LOWEST_LOG_STD, HIGHEST_LOG_STD, help="of the policy's log standard deviation")


class Algorithm(nn.Module, ABC):
    """A learner of S policies side by side. Subclasses add networks, `act`, `update` and their Config.

    All state is in parameters and buffers, so that state_dict() is the whole of it. `update` reads nothing back to the
    host and never branches on data: the policy delay is a static argument.

    acts_with      what the names of the tensors that `act` reads begin with: sent to remote collectors
    random_policy  whether the policy that the critics judge draws its actions, see `sample_action`
    n_step         rewards that a target adds up before it bootstraps
    """

    Config: ClassVar[type[Any]] = AlgorithmConfig
    frozen: Tensor
    horizon: int = 1
    warmup_env_steps: int = 0
    delay: int = 1
    n_step: int = 1
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

    def initialise(self) -> None:
        """Draw the parameters, those of learner k from the stream of its own seed."""
        initialise(self, [torch.Generator().manual_seed(derived_seed(seed, "parameters")) for seed in self.seeds])

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

    def acting_state(self) -> dict[str, Tensor]:
        """The tensors that `act` reads, by name: those whose names begin with `acts_with`, but no optimizer's."""
        optimizers = tuple(f"{name}." for name, module in self.named_modules() if isinstance(module, Adam))
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.startswith(self.acts_with) and not (optimizers and name.startswith(optimizers))
        }

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

    def set_precision(self, precision: str) -> None:
        """Take the products of all hidden layers in bfloat16; parameters, outputs and losses keep their own type."""
        for module in self.modules():
            if isinstance(module, MLP):
                for layer in cast("Sequence[EnsembleLinear]", module.hidden):
                    layer.precision = torch.bfloat16 if precision == "bfloat16" else None

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

    @torch.no_grad()
    def policy(self, learner: int) -> Policy:
        """The deterministic policy of one learner as it is now, on the CPU in float32, its own copy."""
        net = slice_of(self.actor, learner)
        policy = Policy(
            {
                "obs_dim": self.spec.obs_dim,
                "action_dim": self.spec.action_dim,
                "outputs": self.actor.output.weight.shape[-1],
                "net": {
                    "sizes": list(self.config.hidden_sizes),
                    "activation": self.config.activation,
                    "layer_norm": self.config.layer_norm,
                },
                "head": self.head,
                "obs_clip": None if self.observations is None else self.observations.clip,
            }
        )
        policy.net.load_state_dict(net.state_dict())
        policy.action_low.copy_(torch.as_tensor(self.spec.action_low))
        policy.action_high.copy_(torch.as_tensor(self.spec.action_high))
        if self.observations is not None:
            policy.obs_mean.copy_(self.observations.mean[learner])
            policy.obs_inverse_std.copy_(self.observations.inverse_std[learner])
        return policy.requires_grad_(False).eval()


class OffPolicy(Algorithm):
    """What algorithms with a replay share besides their fields: the memory, the warm-up and the size of the rewards."""

    def __init__(self, spec: EnvSpec, config: Any, seeds: Sequence[int]) -> None:
        super().__init__(spec, config, seeds)
        self.warmup_env_steps, self.n_step = config.warmup_env_steps, config.n_step
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
