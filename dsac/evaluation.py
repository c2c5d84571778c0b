"""Scoring a deterministic policy: every episode counts once, whatever its length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dsac.data import derived_seed
from dsac.policy import Policy
from envs.contract import VecEnv


class Score(NamedTuple):
    """Undiscounted raw returns (episodes,) and lengths (episodes,) in steps, with a 95% interval of the mean return."""

    returns: np.ndarray
    lengths: np.ndarray
    low: float
    high: float

    @property
    def mean(self) -> float:
        return float(self.returns.mean())


@torch.no_grad()
def score(policy: Policy, env: VecEnv, episodes: int, seed: int) -> Score:
    """Run `episodes` episodes in worlds that take actions in the task's units, from resets that `seed` decides.

    In each round every world plays one episode and is not counted again: counting whatever ends first would draw short
    episodes more often than long ones.
    """
    returns, lengths = [], []
    for round_ in range(-(-episodes // env.num_envs)):
        obs = env.reset(derived_seed(seed, "evaluation", round_))
        total, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        running = np.ones(env.num_envs, bool)
        while running.any():
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
