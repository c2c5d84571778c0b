"""How well critics tell a fall before it comes: episodes with pushes, and what the critics said in each of their steps.

A fall is a termination by the task. Letters: K steps, N envs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dsac.algorithms.base import Algorithm
from dsac.evaluation import statistics
from dsac.evaluation.critic_predictions import predict_each
from dsac.evaluation.pushes import Pushes
from dsac.nn.policy import Policy
from dsac.seeding import derived_seed
from envs.contract import VecEnv

AHEAD = 100  # steps within which a fall counts as coming
MOST_ENVS = 50
FALSE_ALARMS = 0.05  # share of the steps before no fall that lie above a signal's bound
DRAWS = 1_000
Array = NDArray[np.float64]


class Episodes(NamedTuple):
    """The steps of episodes, one after another: (K,) each; returns (episodes,).

    episode  which one
    left     steps until it ended, at least 1
    fell     whether it ended with a fall
    signals  what the critics said of the observation and the action, by name
    """

    episode: NDArray[np.int64]
    left: NDArray[np.int64]
    fell: NDArray[np.bool_]
    signals: dict[str, Array]
    returns: Array


@torch.no_grad()
def signals_of(algorithm: Algorithm, obs: NDArray[np.float32], action: NDArray[np.float32]) -> dict[str, Array]:
    """What may tell a fall, from obs (N, O) and action (N, A) in [-1, 1]: (N,) each, large where one is feared.

    sigma         deviation of an equal mixture of the critics: the root of mean sigma_i^2 + variance of mu_i
    minus_mean    the smaller mean of the critics, negative
    disagreement  |mu_1 - mu_2|
    Those that the algorithm's critics do not know are left out.
    """
    each = predict_each(algorithm, torch.from_numpy(obs)[None], torch.from_numpy(action)[None])
    mean = each.mean[0].double()
    found = {"minus_mean": -mean.amin(0)}
    if each.sigma is not None:
        found = {"sigma": (each.sigma[0].double().square().mean(0) + mean.var(0, unbiased=False)).sqrt(), **found}
    if len(mean) == 2:
        found["disagreement"] = (mean[0] - mean[1]).abs()
    return {name: value.numpy() for name, value in found.items()}


@torch.no_grad()
def play(
    policy: Policy,
    algorithm: Algorithm,
    env: VecEnv,
    pushes: Pushes,
    episodes: int,
    seed: int,
    show: Callable[[int, int], Any] = lambda played, step: None,
) -> Episodes:
    """Play episodes of a policy in envs that take actions in the task's units; its critics are asked at each step.

    As in dsac.evaluation.scoring every env plays one episode a round; resets follow from `seed`.
    """
    low, high = (torch.as_tensor(limit) for limit in (env.spec.action_low, env.spec.action_high))
    parts: list[dict[str, Any]] = []
    returns: list[Array] = []
    for round_ in range(-(-episodes // env.num_envs)):
        obs = env.reset(derived_seed(seed, "evaluation", round_))
        running, fell = np.ones(env.num_envs, bool), np.zeros(env.num_envs, bool)
        length, total = np.zeros(env.num_envs, np.int64), np.zeros(env.num_envs)
        said: list[dict[str, Array]] = []
        while running.any() and len(said) < env.spec.longest_episode:
            show(min((round_ + 1) * env.num_envs - int(running.sum()), episodes), len(said))
            action = policy(torch.from_numpy(obs))
            unit = 2 * (action - low) / (high - low) - 1
            said.append(signals_of(algorithm, obs, unit.numpy()))
            pushes.before_step()
            step = env.step(action.numpy())
            length += running
            total += np.where(running, step.reward, 0)
            fell |= running & step.terminated
            running &= ~(step.terminated | step.truncated)
            obs = step.obs
        for index in range(min(env.num_envs, episodes - round_ * env.num_envs)):
            steps = length[index]
            parts.append({
                "episode": np.full(steps, round_ * env.num_envs + index),
                "left": steps - np.arange(steps),
                "fell": np.full(steps, fell[index]),
                **{name: np.array([one[name][index] for one in said[:steps]]) for name in said[0]},
            })  # fmt: skip
            returns.append(total[index])
    pushes.end()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    episode, left, fell = (joined.pop(name) for name in ("episode", "left", "fell"))
    return Episodes(episode, left, fell, joined, np.array(returns))


def report(found: Episodes, ahead: int = AHEAD) -> dict[str, Any]:
    """Plain values: how often the robot fell, and how well each signal tells a fall within the next `ahead` steps.

    auroc, interval_95  probability that the signal is larger before a fall than elsewhere, a tie counting half; the
                        interval resamples episodes. None where there was no fall, or where falls are too few
    bound, told         the bound that 5% of the other steps exceed, and the share of the steps before a fall above it
    The last steps of an episode that ended without a fall are left out: nobody knows what came next.
    """
    known = found.fell | (found.left >= ahead)
    coming = (found.fell & (found.left <= ahead))[known]
    episodes, falls = len(found.returns), int(np.count_nonzero(found.fell & (found.left == 1)))
    signals: dict[str, dict[str, Any]] = {}
    for name, every in found.signals.items():
        value, episode = every[known], found.episode[known]
        if not 0 < np.count_nonzero(coming) < len(coming):
            signals[name] = {"auroc": None, "interval_95": None, "bound": None, "told": None}
            continue
        low, high = statistics.roc_interval(value, coming, episode, episodes, DRAWS)
        bound = float(np.quantile(value[~coming], 1 - FALSE_ALARMS))
        signals[name] = {
            "auroc": statistics.area_under_roc(value, coming),
            "interval_95": [float(low), float(high)] if np.isfinite((low, high)).all() else None,
            "bound": bound,
            "told": float(np.mean(value[coming] > bound)),
        }
    return {
        "ahead": ahead,
        "episodes": episodes,
        "steps": len(found.episode),
        "falls": falls,
        "falls_per_1000_steps": 1000 * falls / len(found.episode),
        "mean": float(found.returns.mean()),
        "signals": signals,
    }
