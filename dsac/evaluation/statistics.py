"""Statistics of scores that hold with few of them. Pure functions of arrays.

Scores are a sequence with one array a task, samples last: (..., n). Samples are the seeds of a method, or the episodes
of one policy. Leading dimensions are points that are treated alike, such as those of a curve. Tasks are strata: samples
are resampled within a task, never across.
Sources: Agarwal et al. 2021 (arXiv 2108.13264), Hesterberg 2015, Newcombe 2006, Zou & Donner 2008.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Array]
LEVEL = 0.95
DRAWS = 10_000
AT_ONCE = 1 << 22  # resampled scores in memory


class Interval(NamedTuple):
    """Where a statistic lies with 95% confidence; not a number where there is one sample only."""

    low: Any
    high: Any


def mean(scores: Scores) -> Array:
    """Mean over tasks of the mean over seeds: arrays (..., n) -> (...)."""
    average: Array = np.mean([np.mean(task, -1) for task in scores], 0)
    return average


def interquartile_mean(scores: Scores) -> Array:
    """Mean of the middle half of all seeds of all tasks, floor(n / 4) cut at each end: arrays (..., n) -> (...)."""
    pooled = np.sort(np.concatenate(list(scores), -1), -1)
    cut = pooled.shape[-1] // 4
    middle: Array = pooled[..., cut : pooled.shape[-1] - cut].mean(-1)
    return middle


def bootstrap_interval(statistic: Statistic, scores: Scores, draws: int = DRAWS, widened: bool = True) -> Interval:
    """Stratified percentile bootstrap interval of a statistic: arrays (..., n) -> low (...), high (...).

    The plain percentiles are those of rliable. They are too narrow for few samples: of five they cover the mean of a
    normal distribution 84 times in 100 instead of 95. `widened` takes the percentiles further out by the factor
    sqrt(n / (n - 1)) t / z, which undoes the two causes (Hesterberg 2015, "expanded percentile interval"). No bootstrap
    interval reaches beyond the lowest and highest sample, so with three it covers three times in four.
    """
    counts = [task.shape[-1] for task in scores]
    if min(counts) < 2:
        nothing = np.full(np.shape(statistic(scores)), np.nan)
        return Interval(nothing, nothing)
    random = np.random.default_rng(0)
    chosen = [random.integers(0, count, (draws, count)) for count in counts]
    block = max(1, AT_ONCE // sum(task.size for task in scores))  # thousands of seeds would take gigabytes
    values = [
        statistic([task[..., seeds[start : start + block]] for task, seeds in zip(scores, chosen, strict=True)])
        for start in range(0, draws, block)
    ]
    tail = widened_tail(counts) if widened else (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(values, -1), [tail, 1 - tail], axis=-1)
    return Interval(low, high)


def widened_tail(counts: Sequence[int]) -> float:
    """The share of bootstrap draws to leave out at each end, for so many samples in each task."""
    from scipy.special import stdtrit  # late: it takes 0.2 s

    average = sum(counts) / len(counts)
    freedom = sum(counts) - len(counts)
    quantile = math.sqrt(average / (average - 1)) * stdtrit(freedom, (1 + LEVEL) / 2)
    return NormalDist().cdf(-float(quantile))


def probability_of_improvement(scores: Scores, others: Scores) -> float:
    """How often a seed of one method beats a seed of another, a tie counting half; mean over tasks of arrays (n,)."""
    return float(np.mean([dominance(ours, theirs) for ours, theirs in zip(scores, others, strict=True)]))


def dominance(ours: Array, theirs: Array) -> float:
    """P(ours > theirs) + P(ours = theirs) / 2 over all pairs of (n,) and (m,): Mann and Whitney's U / nm."""
    difference = ours[:, None] - theirs
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def improvement_interval(scores: Scores, others: Scores) -> Interval:
    """95% interval of `probability_of_improvement`, of arrays (n,) and (m,) for each task.

    Newcombe's (2006) method 5 for each task, combined over tasks by their distances from the estimates (Zou & Donner
    2008). A bootstrap interval shrinks to a point where every seed of one method beats every seed of the other: it
    covers a probability of 0.95 only once in two with five seeds a method, and once in four with three.
    """
    pairs = list(zip(scores, others, strict=True))
    found = np.array([dominance(ours, theirs) for ours, theirs in pairs])
    sizes = [(len(ours), len(theirs)) for ours, theirs in pairs]
    limits = np.array([newcombe_limits(value, *size) for value, size in zip(found, sizes, strict=True)])
    reach = np.sqrt(np.square(limits - found[:, None]).sum(0)) / len(pairs)
    return Interval(float(found.mean() - reach[0]), float(found.mean() + reach[1]))


def tellable(ours: int, theirs: int) -> bool:
    """Whether an exact test of so many seeds can tell two methods apart at all: four against four can, three cannot."""
    return 2 / math.comb(ours + theirs, ours) <= 1 - LEVEL


def newcombe_limits(value: float, ours: int, theirs: int) -> tuple[float, float]:
    """The probabilities of improvement furthest from `value` that would give it with (ours, theirs) seeds.

    They include 0.5 where so few seeds are not `tellable`.
    """
    grid = np.linspace(0, 1, 10_001)
    half = (ours + theirs) / 2 - 1
    variance = grid * (1 - grid) * (1 + half * ((1 - grid) / (2 - grid) + grid / (1 + grid))) / (ours * theirs)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    possible = grid[np.square(value - grid) <= z * z * variance + 1e-12]
    low, high = min(possible[0], value), max(possible[-1], value)
    if not tellable(ours, theirs):
        low, high = min(low, 0.5), max(high, 0.5)
    return float(low), float(high)


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's correlation of (n,) and (n,), equal values sharing a rank; not a number where one is constant."""
    from scipy.stats import spearmanr  # late: it takes a second

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(spearmanr(x, y).statistic)


def area_under_roc(score: Array, positive: NDArray[np.bool_]) -> float:
    """P(score of a positive > that of a negative), a tie counting half, of (n,) and (n,): Mann and Whitney's U / nm."""
    from scipy.stats import rankdata  # late: it takes a second

    count = int(np.count_nonzero(positive))
    above = float(rankdata(score)[positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(score) - count))


def roc_interval(
    score: Array, positive: NDArray[np.bool_], group: NDArray[np.int64], groups: int, draws: int
) -> Interval:
    """95% interval of `area_under_roc` of (n,) samples that belong to groups, such as the steps of episodes.

    Whole groups are resampled: samples of one group are not independent. Not a number where a draw can come to no
    positive or no negative sample.
    """
    levels, level = np.unique(score, return_inverse=True)

    def areas(chosen: Scores) -> Array:
        found = []
        for row in np.atleast_2d(chosen[0]):
            weight = np.bincount(row.astype(np.int64), minlength=groups)[group]
            above, below = (np.bincount(level, weight * kind, len(levels)) for kind in (positive, ~positive))
            pairs = above.sum() * below.sum()
            found.append((above * (np.cumsum(below) - below / 2)).sum() / pairs if pairs else math.nan)
        return np.array(found)

    return bootstrap_interval(areas, [np.arange(groups, dtype=float)], draws)


def performance_profile(scores: Scores, thresholds: Array) -> tuple[Array, Interval]:
    """The share of runs above each threshold (T,), mean over tasks of arrays (n,), with its pointwise interval."""
    above = [np.asarray(task > thresholds[:, None], float) for task in scores]
    return mean(above), bootstrap_interval(mean, above, draws=2_000)


def area_under_curve(x: Array, y: Array) -> float:
    """The average height of a curve (K,) over its range of x, by trapezia; of one point its height."""
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if x[-1] > x[0] else float(y[-1])


def first_at_least(x: Array, y: Array, threshold: float) -> float:
    """The first x (K,) whose y (K,) reaches the threshold; infinite where none does."""
    reached = np.flatnonzero(y >= threshold)
    return float(x[reached[0]]) if len(reached) else math.inf


def common_grid(curves: Sequence[Array], most: int = 256) -> Array:
    """Where curves with their points at x (K_i,) can all be read: the union of points within the range all share.

    More than `most` points are replaced by so many evenly spaced ones.
    """
    low, high = max(x[0] for x in curves), min(x[-1] for x in curves)
    points = np.unique(np.concatenate(list(curves)))
    points = points[(points >= low) & (points <= high)]
    return points if len(points) <= most else np.linspace(low, high, most)


def on_grid(x: Array, y: Array, grid: Array) -> Array:
    """A curve (K,) at the points of a grid (G,) within its range, straight between its points."""
    return np.interp(grid, x, y)
