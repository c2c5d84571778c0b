"""What the runs of a task say: each group's scores with intervals, who wins of each pair, and the learning curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsac.compare.groups import Group
from dsac.compare.labels import NAMES
from dsac.compare.results import Run
from dsac.errors import ConfigError
from dsac.evaluation import statistics

Array = NDArray[np.float64]
AXES = {"env_steps": "env steps", "updates": "updates", "wall_time": "seconds"}
LAST_SHARE = 0.1
THRESHOLD_SHARE = 0.9
MOST_PAIRED = 32


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds with its 95% interval; the interval of one seed is not a number."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The scores of a group. Returns are undiscounted and in the task's units.

    failed              how many of the seeds failed: their returns from there on are the lowest known of the task
    env_steps           median over seeds of those at the last evaluation
    final, final_iqm    mean and interquartile mean over seeds of the last evaluation
    best                mean over seeds of the best evaluation in the last 10% of the env steps; `best_of` are there
    area                mean over seeds of the average return along the axis
    deviation, best_deviation   standard deviation over seeds of the final and the best score (n - 1)
    threshold, reached  a return, and how many seeds had an evaluation at or above it
    steps_to, seconds_to        median over seeds of when the first one was; infinite where half of them had none
    seconds             median wall time of a whole run, of those that did not fail
    rates               env steps and updates a second of one learner, mean over seeds
    """

    env: str
    label: str
    seeds: int
    failed: int
    env_steps: float
    final: Estimate
    deviation: float
    final_iqm: Estimate
    best: Estimate
    best_deviation: float
    best_of: int
    area: Estimate
    threshold: float
    reached: int
    steps_to: float
    seconds_to: float
    seconds: float
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """Two groups of a task: how often a run of the first beats one of the second, and the difference of final means.

    tellable    whether there are seeds enough for a verdict
    """

    env: str
    label: str
    other: str
    probability: Estimate
    difference: Estimate
    tellable: bool

    @property
    def verdict(self) -> str:
        """better, worse or not told apart, by the interval of the probability; or too few seeds to tell."""
        if not self.tellable:
            return "too few seeds to tell"
        if self.probability.low > 0.5:
            return "better"
        return "worse" if self.probability.high < 0.5 else "not told apart"

    def turned(self) -> Pair:
        """The same pair, told from the other side."""
        chance, apart = self.probability, self.difference
        return Pair(
            self.env,
            self.other,
            self.label,
            Estimate(1 - chance.value, 1 - chance.high, 1 - chance.low),
            Estimate(-apart.value, -apart.high, -apart.low),
            self.tellable,
        )


@dataclass(frozen=True)
class Curve:
    """Mean return of a group along an axis (G,), its 95% band, and the curve of each seed as it was evaluated."""

    x: Array
    mean: Array
    low: Array
    high: Array
    seeds: tuple[tuple[Array, Array], ...]


def final(group: Group) -> Array:
    """The last evaluation of each run (n,)."""
    return np.array([run.returns[-1] for run in group.runs])


def last_share(run: Run) -> Array:
    """The evaluations in the last 10% of the env steps of a run."""
    kept: Array = run.returns[run.env_steps > (1 - LAST_SHARE) * run.env_steps[-1]]
    return kept


def estimate(statistic: statistics.Statistic, scores: statistics.Scores) -> Estimate:
    """A statistic with its interval."""
    low, high = statistics.bootstrap_interval(statistic, scores)
    return Estimate(float(statistic(scores)), float(low), float(high))


def summarise(group: Group, by: str, threshold: float) -> Summary:
    """The scores of a group; `by` is the axis of the area under the curve."""
    ends, runs = final(group), group.runs
    best = np.array([last_share(run).max() for run in runs])
    areas = np.array([statistics.area_under_curve(getattr(run, by), run.returns) for run in runs])
    steps = [reached(run, run.env_steps, threshold) for run in runs]
    seconds = [reached(run, run.wall_time, threshold) for run in runs]
    whole = [run.wall_time[-1] for run in runs if run.failure is None]
    known = [run.rates for run in runs if run.rates]
    return Summary(
        env=group.env,
        label=group.label,
        seeds=len(runs),
        failed=group.failed,
        env_steps=float(np.median([run.env_steps[-1] for run in runs])),
        final=estimate(statistics.mean, [ends]),
        deviation=deviation(ends),
        final_iqm=estimate(statistics.interquartile_mean, [ends]),
        best=estimate(statistics.mean, [best]),
        best_deviation=deviation(best),
        best_of=int(np.median([len(last_share(run)) for run in runs])),
        area=estimate(statistics.mean, [areas]),
        threshold=threshold,
        reached=int(np.isfinite(steps).sum()),
        steps_to=median(steps),
        seconds_to=median(seconds),
        seconds=float(np.median(whole)) if whole else math.nan,
        rates={key: float(np.mean([rates[key] for rates in known])) for key in known[0]} if known else {},
    )


def reached(run: Run, x: Array, threshold: float) -> float:
    """The first x (K,) at which a run reached a return; infinite where it did not, or failed later."""
    return math.inf if run.failure else statistics.first_at_least(x, run.returns, threshold)


def deviation(values: Array) -> float:
    """Standard deviation over seeds (n - 1), not a number for one."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def median(times: Sequence[float]) -> float:
    """Median of times of which some may be infinite: the later of the two in the middle."""
    return sorted(times)[len(times) // 2]


def default_threshold(groups: Sequence[Group]) -> float:
    """A return of a task that is 90% of the way from the mean first evaluation to the best group's final mean."""
    start = float(np.mean([np.mean([run.returns[0] for run in group.runs]) for group in groups]))
    best = max(float(final(group).mean()) for group in groups)
    return start + THRESHOLD_SHARE * (best - start)


def thresholds(words: str | None, groups: Sequence[Group]) -> dict[str, float]:
    """The threshold of each task: "9000" for all, "HalfCheetah-v5:5000,Ant-v5:3000" for some. Raises ConfigError."""
    tasks = list(dict.fromkeys(group.env for group in groups))
    found = {env: default_threshold([group for group in groups if group.env == env]) for env in tasks}
    for word in (words or "").split(",") if words else []:
        env, colon, value = word.rpartition(":")
        env = env if env in tasks else f"{env}-v5"
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (colon and env not in tasks):
            raise ConfigError(f"threshold={word}: give a return, or <task>:<return> with a task of {', '.join(tasks)}")
        found |= {env: number} if colon else dict.fromkeys(tasks, number)
    return found


def pairs(groups: Sequence[Group]) -> list[Pair]:
    """Every two groups of a task that may be compared, in the order of the groups.

    Of more than MOST_PAIRED groups those with the `subject` alone: a hundred groups are five thousand pairs.
    """
    found = []
    for env in dict.fromkeys(group.env for group in groups):
        there = [group for group in groups if group.env == env]
        both = [(one, other) for one, other in itertools.combinations(there, 2) if not one.different(other)]
        if len(there) > MOST_PAIRED:
            about = reference(there, {group.label for two in both for group in two})
            both = [two for two in both if about is two[0] or about is two[1]]
        found += [pair(*two) for two in both]
    return found


def reference(groups: Sequence[Group], compared: Collection[str]) -> Group:
    """Whom a comparison is about: the best DSAC-T that can be compared, or else the best DSAC-T, or else the best."""
    ours = [group for group in groups if group.algorithm == next(iter(NAMES))]
    candidates = [group for group in ours if group.label in compared] or ours or groups
    return max(candidates, key=lambda group: float(final(group).mean()))


def pair(group: Group, other: Group) -> Pair:
    """Who wins, how often and by how much, on the last evaluation."""
    ours, theirs = final(group), final(other)
    probability = statistics.probability_of_improvement([ours], [theirs])
    difference = estimate(lambda scores: scores[0].mean(-1) - scores[1].mean(-1), [ours, theirs])
    interval = statistics.improvement_interval([ours], [theirs])
    tellable = statistics.tellable(len(ours), len(theirs))
    return Pair(group.env, group.label, other.label, Estimate(probability, *interval), difference, tellable)


def curve(group: Group, by: str) -> Curve:
    """The learning curve of a group: seeds read off straight lines at all points within the range that they share."""
    seeds = tuple((getattr(run, by), run.returns) for run in group.runs)
    x = statistics.common_grid([x for x, _ in seeds])
    if not len(x):  # on wall time, a seed may end before another had its first evaluation
        return Curve(x, x, x, x, seeds)
    rows = np.stack([statistics.on_grid(*seed, x) for seed in seeds], -1)
    low, high = statistics.bootstrap_interval(statistics.mean, [rows], draws=2_000)
    return Curve(x, rows.mean(-1), low, high, seeds)
