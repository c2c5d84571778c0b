"""Scoring a deterministic policy: every episode counts once, whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsac.data import derived_seed
from envs.contract import VecEnv

MOST_WORLDS = 10


class Stopped(Exception):
    """Scoring was asked to stop before it was done."""


class Score(NamedTuple):
    """Undiscounted raw returns (episodes,) and lengths (episodes,) in steps, with a 95% interval of the mean return."""

    returns: np.ndarray
    lengths: np.ndarray
    low: float
    high: float

    @property
    def mean(self) -> float:
        return float(self.returns.mean())


def worlds(episodes: int) -> int:
    """How many worlds `episodes` are played in. Scores depend on it, so training and re-scoring both ask here."""
    return min(episodes, MOST_WORLDS)


@torch.no_grad()
def score(
    policy: Callable[[Tensor], Tensor],
    env: VecEnv,
    episodes: int,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Score:
    """Run `episodes` episodes in worlds that take actions in the task's units, from resets that `seed` decides.

    In each round every world plays one episode and is not counted again: counting whatever ends first would draw short
    episodes more often than long ones. `should_stop` is asked at every step; raises Stopped when it says yes.
    """
    returns, lengths = [], []
    for round_ in range(-(-episodes // env.num_envs)):
        obs = env.reset(derived_seed(seed, "evaluation", round_))
        total, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        running = np.ones(env.num_envs, bool)
        while running.any():
            if should_stop():
                raise Stopped
            step = env.step(policy(torch.from_numpy(obs)).numpy())
            total += np.where(running, step.reward, 0)
            length += running
            running &= ~(step.terminated | step.truncated)
            obs = step.obs
        returns.append(total)
        lengths.append(length)
    every_return = np.concatenate(returns)[:episodes]
    low, high = interval(every_return)
    return Score(every_return, np.concatenate(lengths)[:episodes], low, high)


def interval(values: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of values (n,)."""
    draws = np.random.default_rng(0).choice(values, (resamples, len(values)))
    low, high = np.percentile(draws.mean(1), [2.5, 97.5])
    return float(low), float(high)
