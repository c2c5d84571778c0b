"""All that runs say about algorithms, task by task and over all tasks together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsac.cli.progress import following
from dsac.compare.groups import Group, grouped
from dsac.compare.results import QUIET_SECONDS, Run
from dsac.compare.scores import Curve, Estimate, Pair, Summary, curve, estimate, final, pairs, summarise, thresholds
from dsac.evaluation import statistics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """The share of runs whose final score lies above each threshold (T,), with its pointwise 95% band."""

    thresholds: Array
    share: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Overall:
    """All tasks together, for a label that has runs in each: final scores with 0 the lowest and 1 the highest run."""

    label: str
    mean: Estimate
    iqm: Estimate


@dataclass(frozen=True)
class Comparison:
    """All that is said of some runs; tasks, and the groups of a task, stand in one order everywhere.

    by       the axis of curves and areas
    remarks  what was left out and what is not compared, a line each
    """

    by: str
    groups: Sequence[Group]
    summaries: Sequence[Summary]
    pairs: Sequence[Pair]
    curves: Mapping[str, Mapping[str, Curve]]
    profiles: Mapping[str, Profile]
    overall: Sequence[Overall]
    remarks: Sequence[str]

    @property
    def tasks(self) -> list[str]:
        return list(self.curves)

    def of(self, env: str) -> tuple[list[Group], list[Summary], list[Pair]]:
        """The groups of a task, their summaries and their pairs."""
        return (
            [one for one in self.groups if one.env == env],
            [row for row in self.summaries if row.env == env],
            [duel for duel in self.pairs if duel.env == env],
        )


def compare(
    runs: Sequence[Run], by: str = "env_steps", until: int | None = None, goals: str | None = None
) -> Comparison:
    """Group runs and compute everything; `goals` are the words of `thresholds`. Raises ConfigError for no runs."""
    groups, remarks = grouped(runs, until)
    goal = thresholds(goals, groups)
    tasks = list(dict.fromkeys(one.env for one in groups))
    followed = following("scores", groups, len(groups), quiet_seconds=QUIET_SECONDS)
    return Comparison(
        by,
        groups,
        [summarise(one, by, goal[one.env]) for one in followed],
        pairs(groups),
        {env: {one.label: curve(one, by) for one in groups if one.env == env} for env in tasks},
        profiles(groups),
        overall(groups),
        [*remarks, *incomparable(groups)],
    )


def incomparable(groups: Sequence[Group]) -> list[str]:
    """A remark for each kind of difference between the groups of one task that keeps them from being compared."""
    remarks = []
    for env in dict.fromkeys(group.env for group in groups):
        found = [group for group in groups if group.env == env]
        for key in found[0].comparability:
            kinds: dict[str, list[str]] = defaultdict(list)
            for one in found:
                kinds[one.comparability[key]].append(one.label)
            if len(kinds) > 1:
                sides = "; ".join(f"{value}: {listed(labels)}" for value, labels in kinds.items())
                remarks.append(f"{env}: not compared across different {key} ({sides})")
    return remarks


def listed(labels: Sequence[str]) -> str:
    """Up to three labels by name, more as a number: a label is as long as all settings in which the groups differ."""
    return ", ".join(labels) if len(labels) <= 3 else f"{len(labels)} groups"


def in_every_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The labels that have runs in each task, with their groups in the order of the tasks."""
    tasks = list(dict.fromkeys(group.env for group in groups))
    found = {
        label: [group for group in groups if group.label == label] for label in dict.fromkeys(g.label for g in groups)
    }
    return {label: members for label, members in found.items() if [group.env for group in members] == tasks}


def normalised(groups: Sequence[Group]) -> dict[str, list[Array]]:
    """Final scores by label, one array (n,) a task, with 0 the lowest and 1 the highest run of each task."""
    ends: dict[str, list[Array]] = {}
    for group in groups:
        ends.setdefault(group.env, []).append(final(group))
    low = {env: min(map(np.min, scores)) for env, scores in ends.items()}
    span = {env: (max(map(np.max, scores)) - low[env]) or 1.0 for env, scores in ends.items()}
    return {
        label: [(final(group) - low[group.env]) / span[group.env] for group in members]
        for label, members in in_every_task(groups).items()
    }


def overall(groups: Sequence[Group]) -> list[Overall]:
    """The labels with runs in each of several tasks; empty for one task."""
    if len({group.env for group in groups}) < 2:
        return []
    return [
        Overall(label, estimate(statistics.mean, scores), estimate(statistics.interquartile_mean, scores))
        for label, scores in normalised(groups).items()
    ]


def profiles(groups: Sequence[Group]) -> dict[str, Profile]:
    """The performance profile of each label: over returns for one task, over normalised scores for several."""
    one_task = len({group.env for group in groups}) == 1
    scores = {group.label: [final(group)] for group in groups} if one_task else normalised(groups)
    if not scores:
        return {}
    every = np.concatenate([task for tasks in scores.values() for task in tasks])
    grid = np.linspace(every.min(), every.max(), 101) if one_task else np.linspace(0, 1, 101)
    found = {}
    for label, tasks in scores.items():
        share, interval = statistics.performance_profile(tasks, grid)
        found[label] = Profile(grid, share, interval.low, interval.high)
    return found
