"""Scoring a deterministic policy: every episode counts once, whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsac.evaluation import statistics
from dsac.schema.plain_text import warn
from dsac.seeding import derived_seed
from envs.contract import EnvironmentFault, VecEnv

MOST_WORLDS = 10
LONG_EPISODE = 10_000  # steps after which a task without a clock is told of


class Stopped(Exception):
    """Scoring was asked to stop before it was done."""


class OnceEach:
    """Warns of each kind of trouble once."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def __call__(self, kind: str, line: str) -> None:
        """Print the line, unless one of its kind was printed."""
        if kind not in self.told:
            self.told.add(kind)
            warn(line)


class Score(NamedTuple):
    """Undiscounted raw returns (episodes,) and lengths (episodes,) in steps, with a 95% interval of the mean return.

    The interval is one over the episodes of this policy, and not a number where there is one episode only.
    """

    returns: np.ndarray
    lengths: np.ndarray
    low: float
    high: float

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    def facts(self) -> dict[str, Any]:
        """The mean return and its interval as JSON has them; the interval is None where there is one episode only."""
        return {"mean": self.mean, "interval_95": [self.low, self.high] if len(self.returns) > 1 else None}


def worlds(episodes: int) -> int:
    """How many worlds `episodes` are played in. Scores depend on it, so training and re-scoring both ask here."""
    return min(episodes, MOST_WORLDS)


@torch.no_grad()
def score(
    policy: Callable[[Tensor], Tensor],
    env: VecEnv,
    episodes: int,
    seed: int,
    should_stop: Callable[[int, int], bool] = lambda played, step: False,
    warn: Callable[[str, str], None] | None = None,
) -> Score:
    """Run `episodes` episodes in worlds that take actions in the task's units, from resets that `seed` decides.

    In each round every world plays one episode and is not counted again: counting whatever ends first would draw short
    episodes more often than long ones. An episode without an end is cut at EnvSpec.longest_episode, one whose world
    failed ends there; `warn` is told of either, with its kind and a line.

    `should_stop` is asked at every step, with the episodes played and the steps of those that run. Raises Stopped when
    it says yes, EnvironmentFault when all episodes fail in their first step.
    """
    warn, rounds = warn or OnceEach(), -(-episodes // env.num_envs)
    returns, lengths, failed_at_once = list[np.ndarray](), list[np.ndarray](), 0
    for round_ in range(rounds):
        obs = env.reset(derived_seed(seed, "evaluation", round_))
        total, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        running, steps = np.ones(env.num_envs, bool), 0
        while (left := int(np.count_nonzero(running))) and not too_long(steps, left, env, warn):
            if should_stop(min((round_ + 1) * env.num_envs - left, episodes), steps):
                raise Stopped
            step = env.step(policy(torch.from_numpy(obs)).numpy())
            steps += 1
            total += np.where(running, step.reward, 0)
            length += running
            if (failed := running & step.invalid).any():
                warn("invalid", f"{env.failure} at step {steps:,} of an evaluation episode, which ends there")
                failed_at_once += int(np.count_nonzero(failed)) if steps == 1 else 0
            running &= ~(step.terminated | step.truncated)
            obs = step.obs
        returns.append(total)
        lengths.append(length)
    if failed_at_once == rounds * env.num_envs:
        raise EnvironmentFault(
            f"{env.failure}; all episodes of an evaluation failed in their first step; repair the environment, then "
            "run again"
        )
    every_return = np.concatenate(returns)[:episodes]
    low, high = statistics.bootstrap_interval(statistics.mean, [every_return])
    return Score(every_return, np.concatenate(lengths)[:episodes], float(low), float(high))


def too_long(steps: int, left: int, env: VecEnv, warn: Callable[[str, str], None]) -> bool:
    """Whether the episodes that run after so many steps are to be cut; tells of them, and of a task without a clock."""
    spec = env.spec
    if steps == LONG_EPISODE and spec.max_episode_steps is None:
        found = f"{spec.id}: an evaluation episode has taken {steps:,} steps and this task has no clock"
        warn("long", f"{found}; set env.max_episode_steps, or it is cut at {spec.longest_episode:,}")
    if steps < spec.longest_episode:
        return False
    found = f"{spec.id}: {left} of {env.num_envs} evaluation episodes were cut at step {steps:,}, and so their returns"
    warn("cut", f"{found}; set env.max_episode_steps to where an episode ends")
    return True
