"""Groups whose runs have not all come equally far: how far with how many seeds, and two groups where both have been."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from dsac.groups import Group
from dsac.results import CURVES, Run
from dsac.scores import Curve, curve

REACHED = 0.95  # of the way is there, as in dsac.groups: another cadence of evaluation
BEYOND = 1.01  # of the way is not beyond: blocks of PPO end where they end
BY_THEN = 0.8  # by a time that falls between evaluations, the last one counts

Axis = Callable[[Run], np.ndarray]


def env_steps(run: Run) -> np.ndarray:
    return run.env_steps


def updates(run: Run) -> np.ndarray:
    return run.updates


def cut(group: Group, limit: float, along: Axis = env_steps, near: float = REACHED) -> Group | None:
    """The runs of a group that were evaluated near `limit` along an axis, up to there; None where none was.

    A run that ended `REACHED` of the way or later, and whose last evaluation by then lies `near` of the way or later.
    """
    runs = []
    for run in group.runs:
        place = along(run)
        kept = place <= BEYOND * limit
        if place[-1] >= REACHED * limit and kept.any() and place[kept][-1] >= near * limit:
            runs.append(dataclasses.replace(run, **{name: getattr(run, name)[kept] for name in CURVES}))
    return dataclasses.replace(group, runs=tuple(runs)) if runs else None


def apart(points: Iterable[float]) -> list[float]:
    """Points in rising order without those that a further one counts as reached."""
    found: list[float] = []
    for point in sorted(points, reverse=True):
        if not found or point < REACHED * found[-1]:
            found.append(point)
    return found[::-1]


def ends(group: Group, along: Axis = env_steps) -> list[float]:
    """The last points that the seeds of a group share: as many as there are lengths of runs, the fewest seeds last."""
    return apart(float(along(run)[-1]) for run in group.runs)


def first_telling(group: Group) -> float:
    """The env steps from which on a group may stand beside others: its end, where its learning rate falls until then.

    Half of a run whose learning rate would have fallen is not what a run of half the budget had reached.
    """
    constant = group.settings.get("algo.learning_rate_schedule", "constant") == "constant"
    return 0.0 if constant else REACHED * ends(group)[-1]


def meetings(one: Group, other: Group, along: Axis = env_steps, other_along: Axis | None = None) -> list[float]:
    """Where two groups may be compared along an axis: where one of them loses a seed that the other still has.

    On env steps that is not before either is `first_telling`.
    """
    other_along = other_along or along
    found = apart(min(ours, theirs) for ours in ends(one, along) for theirs in ends(other, other_along))
    if along is env_steps:
        first = max(first_telling(one), first_telling(other))
        found = [point for point in found if point >= first]
    return found


def whole_curve(group: Group) -> Curve:
    """The learning curve of a group over env steps as far as any seed has come: the mean of those that are there."""
    pieces, begin = [], -np.inf
    for end in ends(group):
        there = cut(group, end)
        assert there is not None
        piece = curve(there, "env_steps")
        after = piece.x > begin
        pieces.append([part[after] for part in (piece.x, piece.mean, piece.low, piece.high)])
        begin = piece.x[-1]
    return Curve(*map(np.concatenate, zip(*pieces, strict=True)), curve(group, "env_steps").seeds)
