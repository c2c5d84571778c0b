"""What every environment backend promises to the collector: shapes, units and the meaning of each field.

Letters: N worlds of one learner, O observation entries, A action entries, K reward terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
MOST_EPISODE_STEPS = 100_000  # a scored or filmed episode is cut here where no clock of the task ends it
LARGEST = 1e37  # of a number in a controller: twice as much is still a float32


class EnvironmentFault(RuntimeError):
    """An environment cannot be built or stepped; the message names the environment, the cause and the remedy."""


class NonFiniteAction(EnvironmentFault):
    """An action is NaN or infinite: the policy has diverged. No world was stepped."""


class UnsuitableEnvironment(ValueError):
    """The request cannot be served: unknown name, discrete or unbounded actions, an observation that is not a Box."""


def refuse_limits(task_id: str, names: Sequence[str], low: FloatArray, high: FloatArray) -> None:
    """Raise UnsuitableEnvironment for limits of an action that float32 cannot map [-1, 1] onto, such as its largest."""
    for name, lowest, highest in zip(names, low, high, strict=True):
        if not max(abs(lowest), abs(highest)) <= LARGEST:
            raise UnsuitableEnvironment(
                f"{task_id}: the limits of {name} are {lowest:g} to {highest:g}, beyond {LARGEST:g}: give it the range "
                "that the actuator has"
            )


class EnvSpec(NamedTuple):
    """What a task looks like from outside.

    id                  (str) the full task id with its version, "Humanoid-v5"
    obs_dim             O
    action_dim          A
    action_low, _high   (A,) float32, in the task's own units (Nm, m, rad; whatever its actuators take)
    dt                  seconds between two actions; 0 where the backend does not know
    obs_names           O names, in order
    action_names        A names, in order (actuator names for MuJoCo)
    reward_terms        K names of the parts of the reward that a Step carries for the logs
    max_episode_steps   where the clock ends an episode; None where there is no clock that the backend knows of
    privileged_names    names of what the engine writes for a critic alone, beside the observation
    """

    id: str
    obs_dim: int
    action_dim: int
    action_low: FloatArray
    action_high: FloatArray
    dt: float
    obs_names: tuple[str, ...]
    action_names: tuple[str, ...]
    reward_terms: tuple[str, ...]
    max_episode_steps: int | None = None
    privileged_names: tuple[str, ...] = ()

    @property
    def longest_episode(self) -> int:
        """Steps after which an episode is over that nobody learns from: those of the clock, else MOST_EPISODE_STEPS."""
        return self.max_episode_steps or MOST_EPISODE_STEPS


class Step(NamedTuple):
    """The answer to one action in each of N worlds. The arrays are the caller's: a later step does not change them.

    next_obs      (N, O) float32, the true successor of the action, also on the last step of an episode
    reward        (N,) float32, as the task defines it, never scaled
    terminated    (N,) bool, the task ended: no value beyond
    truncated     (N,) bool, the clock ended: bootstrap from next_obs
    obs           (N, O) float32, what to act on now: next_obs, or the first observation of the next episode
    reward_terms  (N, K) float32, the parts of the reward named in EnvSpec.reward_terms
    invalid       (N,) bool, the world failed: MuJoCo threw its diverged state away, or the task gave a number that is
                  not finite. The row is no transition and must not be learned from: next_obs repeats the last obs,
                  reward and its terms are 0, truncated is True; obs begins a new episode
    """

    next_obs: FloatArray
    reward: FloatArray
    terminated: BoolArray
    truncated: BoolArray
    obs: FloatArray
    reward_terms: FloatArray
    invalid: BoolArray


class VecEnv(Protocol):
    """N worlds of one task, stepped together; a world whose episode ended is reset within the same step.

    exact_state   True where load_state_dict makes the next steps bit-identical to those of the saved worlds
    failure       what was wrong with the newest step that had an invalid row, in words: its first such world, the field
                  and the value; empty before
    """

    spec: EnvSpec
    num_envs: int
    exact_state: bool
    failure: str

    def reset(self, seed: int) -> FloatArray:
        """Start a new episode in every world, world i from SeedSequence((seed, i)); returns obs (N, O)."""
        ...

    def observe(self) -> FloatArray:
        """What to act on now, (N, O): after a reset, a step or a load."""
        ...

    def step(self, action: FloatArray) -> Step:
        """Apply actions (N, A). They are clipped to [-1, 1] and mapped onto the task's limits here,
        or, where the worlds were made with action_units="env", taken in the task's units and clipped to its limits.

        Raises NonFiniteAction before a simulator sees one, EnvironmentFault when a world fails.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on: a tree of dicts and lists with numpy arrays, numbers and strings."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of the same task and number of worlds; new episodes where exact_state is False."""
        ...

    def simulator(self, world: int) -> tuple[Any, Any]:
        """MuJoCo's (MjModel, MjData) of a world, to draw it. Raises UnsuitableEnvironment where there is none."""
        ...

    def close(self) -> None:
        """Release what the worlds hold."""
        ...
