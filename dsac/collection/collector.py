"""The collector: the policy acts, the worlds step, a block of transitions comes back.

It owns the observation to act on and what the running episodes have earned. Letters: S learners, N worlds of each,
T steps, O observation, A action, K reward terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsac.collection.contract import Act, Recording, loaded_episodes, saved_episodes
from dsac.data import Episode, Transition
from dsac.seeding import derived_seed
from envs.contract import Step, VecEnv

RECORDED_STEPS = 100  # from one saved state of the envs to the next: one at every step is a good part of its time


class Collector:
    """Steps the worlds of S learners, learner k in envs[k], with noise from a generator of its own.

    block            the newest block, or as much of it as was taken
    states, actions  the envs' exact states before one of the newest blocks, and every action (S, N, A) since
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
        self.block: Transition | None = None
        self.states: list[dict[str, Any] | None] = []
        self.actions: list[NDArray[np.float32]] = []

    def collect(self, act: Act, steps: int, meanwhile: Callable[[], None] | None = None) -> Transition:
        """Take `steps` steps in every world; the block's arrays (T, S, N, ...) are new.

        meanwhile: called once the first actions are chosen, before the worlds step: what it launches on a device runs
        beside them.
        """
        learners, worlds, obs_dim = self.obs.shape
        shape, noise_shape = (steps, learners, worlds), (worlds, self.spec.action_dim)
        block = Transition(
            obs=np.empty((*shape, obs_dim), np.float32),
            action=np.empty((*shape, self.spec.action_dim), np.float32),
            reward=np.empty(shape, np.float32),
            next_obs=np.empty((*shape, obs_dim), np.float32),
            terminated=np.empty(shape, np.bool_),
            truncated=np.empty(shape, np.bool_),
            invalid=np.empty(shape, np.bool_),
        )
        if not self.states or len(self.actions) >= RECORDED_STEPS:
            self.states = [env.state_dict() if env.exact_state else None for env in self.envs]
            self.actions = []
        for t in range(steps):
            noise = torch.stack([torch.randn(noise_shape, generator=generator) for generator in self.generators])
            action = act(torch.as_tensor(self.obs, device=self.device), noise.to(self.device)).cpu().numpy()
            block.obs[t], block.action[t] = self.obs, action
            self.block = Transition(*(field[: t + 1] for field in block))
            self.actions.append(block.action[t])
            if t == 0 and meanwhile is not None:
                meanwhile()
            for learner, env in enumerate(self.envs):
                step = env.step(action[learner])
                block.reward[t, learner], block.next_obs[t, learner] = step.reward, step.next_obs
                block.terminated[t, learner], block.truncated[t, learner] = step.terminated, step.truncated
                block.invalid[t, learner] = step.invalid
                self.obs[learner] = step.obs
                self.follow_episodes(learner, step)
        return block

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

    def recordings(self) -> list[Recording]:
        """What repeats the newest block, bit for bit: one of each learner."""
        actions = np.array(self.actions)
        return [Recording(state, actions[:, learner]) for learner, state in enumerate(self.states)]

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
            "finished": saved_episodes(self.finished),
            "generators": [generator.get_state() for generator in self.generators],
            "envs": [env.state_dict() for env in self.envs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the saved collector stood; worlds that cannot be restored begin new episodes."""
        self.states = []
        for env, saved in zip(self.envs, state["envs"], strict=True):
            env.load_state_dict(saved)
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(torch.as_tensor(saved).clone())  # a view with an offset crashes torch
        self.finished = loaded_episodes(state["finished"])
        self.invalid_steps[...] = state["invalid_steps"]
        for learner, env in enumerate(self.envs):
            self.obs[learner] = env.observe()
            self.returns[learner] = state["returns"][learner] * env.exact_state
            self.lengths[learner] = state["lengths"][learner] * env.exact_state
            self.term_sums[learner] = state["term_sums"][learner] * env.exact_state
