"""The collector: the policy acts, the worlds step, a block of transitions comes back.

It owns the observation to act on and what the running episodes have earned. Letters: S learners, N worlds of each,
T steps, O observation, A action, K reward terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsac.data import Transition
from dsac.seeding import derived_seed
from envs.contract import EnvSpec, Step, VecEnv

Act = Callable[[Tensor, Tensor], Tensor]


class Episode(NamedTuple):
    """A finished episode: the sum of its raw rewards, its steps, and the sum of each reward term (K,)."""

    return_: float
    length: int
    reward_terms: tuple[float, ...]


class AnyCollector(Protocol):
    """What the trainer needs of a collector, in this process or elsewhere.

    envs           what is to be closed at the end, and tells whether a resume is exact
    invalid_steps  (S,) how many steps of each learner were no transition
    failure        what was wrong with the first of them, in words; empty before
    before, block  the newest block, and the worlds' states before it, for what goes wrong in it
    """

    spec: EnvSpec
    num_envs: int
    seeds: list[int]
    invalid_steps: NDArray[np.int64]
    failure: str
    before: list[dict[str, Any] | None]
    block: Transition | None

    @property
    def envs(self) -> Sequence[Any]: ...
    def collect(self, act: Act, steps: int, meanwhile: Callable[[], None] = ...) -> Transition: ...
    def take_finished(self, learner: int) -> list[Episode]: ...
    def take_facts(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Collector:
    """Steps the worlds of S learners, learner k in envs[k], with noise from a generator of its own.

    before, block   the worlds' states, those that are exact, before the newest block, and as much of it as was taken
    """

    def __init__(self, envs: Sequence[VecEnv], seeds: Sequence[int], device: torch.device) -> None:
        self.envs, self.device, self.seeds = list(envs), device, list(seeds)
        self.spec, self.num_envs = envs[0].spec, envs[0].num_envs
        self.generators = [torch.Generator().manual_seed(derived_seed(seed, "action")) for seed in seeds]
        self.obs = np.stack(
            [env.reset(derived_seed(seed, "environment")) for env, seed in zip(self.envs, seeds, strict=True)]
        )
        shape = self.obs.shape[:2]
        self.returns = np.zeros(shape)
        self.lengths = np.zeros(shape, np.int64)
        self.term_sums = np.zeros((*shape, len(self.spec.reward_terms)))
        self.invalid_steps = np.zeros(shape[0], np.int64)
        self.failure = ""
        self.finished: list[list[Episode]] = [[] for _ in self.envs]
        self.before: list[dict[str, Any] | None] = []
        self.block: Transition | None = None

    def collect(self, act: Act, steps: int, meanwhile: Callable[[], None] = lambda: None) -> Transition:
        """Take `steps` steps in every world; the block's arrays (T, S, N, ...) are new.

        meanwhile: called once the first actions are chosen, before the worlds step: what it launches on a device runs
        beside them.
        """
        learners, worlds, obs_dim = self.obs.shape
        shape = (steps, learners, worlds)
        block = Transition(
            obs=np.empty((*shape, obs_dim), np.float32),
            action=np.empty((*shape, self.spec.action_dim), np.float32),
            reward=np.empty(shape, np.float32),
            next_obs=np.empty((*shape, obs_dim), np.float32),
            terminated=np.empty(shape, np.bool_),
            truncated=np.empty(shape, np.bool_),
            invalid=np.empty(shape, np.bool_),
        )
        self.before = [env.state_dict() if env.exact_state else None for env in self.envs]
        for t in range(steps):
            noise = torch.stack([self.draw_noise(generator) for generator in self.generators])
            action = act(torch.as_tensor(self.obs, device=self.device), noise.to(self.device)).cpu().numpy()
            block.obs[t], block.action[t] = self.obs, action
            self.block = Transition(*(field[: t + 1] for field in block))
            if t == 0:
                meanwhile()
            for learner, env in enumerate(self.envs):
                step = env.step(action[learner])
                block.reward[t, learner], block.next_obs[t, learner] = step.reward, step.next_obs
                block.terminated[t, learner], block.truncated[t, learner] = step.terminated, step.truncated
                block.invalid[t, learner] = step.invalid
                self.obs[learner] = step.obs
                self.follow_episodes(learner, step)
        return block

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal noise (N, A) for one step of one learner."""
        return torch.randn(self.num_envs, self.spec.action_dim, generator=generator)

    def follow_episodes(self, learner: int, step: Step) -> None:
        """Add a step to the running episodes; move those that ended to `finished`, drop those whose world failed."""
        self.returns[learner] += step.reward
        self.lengths[learner] += 1
        self.term_sums[learner] += step.reward_terms
        if step.invalid.any():
            self.note_failure(learner, step.invalid)
        for world in np.flatnonzero(step.terminated | step.truncated):
            if not step.invalid[world]:
                self.finished[learner].append(
                    Episode(
                        float(self.returns[learner, world]),
                        int(self.lengths[learner, world]),
                        tuple(self.term_sums[learner, world].tolist()),
                    )
                )
            self.returns[learner, world] = self.lengths[learner, world] = 0
            self.term_sums[learner, world] = 0

    def note_failure(self, learner: int, invalid: NDArray[np.bool_]) -> None:
        """Count steps that are no transition; keep what was wrong with the first one."""
        self.invalid_steps[learner] += np.count_nonzero(invalid)
        if not self.failure:
            length = self.lengths[learner, invalid.argmax()]
            self.failure = f"{self.envs[learner].failure} at step {length:,} of its episode (learner {learner})"

    def take_finished(self, learner: int) -> list[Episode]:
        """The episodes of a learner that ended since the last call."""
        episodes, self.finished[learner] = self.finished[learner], []
        return episodes

    def take_facts(self) -> dict[str, float]:
        """What else there is to log since the last call; nothing here, where every step is the newest policy's."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The running episodes, the generators and the worlds."""
        return {
            "returns": self.returns,
            "lengths": self.lengths,
            "invalid_steps": self.invalid_steps,
            "term_sums": self.term_sums,
            "finished": [[list(episode) for episode in episodes] for episodes in self.finished],
            "generators": [generator.get_state() for generator in self.generators],
            "envs": [env.state_dict() for env in self.envs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the saved collector stood; worlds that cannot be restored begin new episodes."""
        for env, saved in zip(self.envs, state["envs"], strict=True):
            env.load_state_dict(saved)
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(torch.as_tensor(saved).clone())  # a view with an offset crashes torch
        self.finished = [
            [Episode(float(return_), int(length), tuple(map(float, terms))) for return_, length, terms in episodes]
            for episodes in state["finished"]
        ]
        self.invalid_steps[...] = state["invalid_steps"]
        for learner, env in enumerate(self.envs):
            self.obs[learner] = env.observe()
            continues = float(env.exact_state)
            self.returns[learner] = state["returns"][learner] * continues
            self.lengths[learner] = state["lengths"][learner] * int(continues)
            self.term_sums[learner] = state["term_sums"][learner] * continues
