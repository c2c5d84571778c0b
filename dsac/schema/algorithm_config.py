"""The settings that algorithms share: those of every one, of every one with a replay, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dsac.schema.ranges import FIXED, at_least, between, choice, out_of_order, positive, setting, share

# Of a policy's log standard deviation: at e^2 before tanh nearly every action lies at a limit, and the square of e^-40
# is still a float32.
LOWEST_LOG_STD, HIGHEST_LOG_STD = -40.0, 2.0


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

    def network(self) -> dict[str, Any]:
        """What every network is built with, beside its inputs and outputs."""
        return {"sizes": self.hidden_sizes, "activation": self.activation, "layer_norm": self.layer_norm}

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
    n_step: int | None = at_least(
        1, 1, help="rewards summed before bootstrapping; null: 3 if episodes terminate in the warm-up, else 1"
    )
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
        steps = self.n_step or 3  # null may choose so many
        if steps * self.num_envs > self.replay_capacity:
            found.append(
                f"algo.replay_capacity={self.replay_capacity} holds no algo.n_step={steps} steps of each of "
                f"algo.num_envs={self.num_envs} envs"
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

    n_step: int | None = setting(
        1, help="rewards summed before bootstrapping, without the entropy between; null: 3 if episodes end, else 1"
    )
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
