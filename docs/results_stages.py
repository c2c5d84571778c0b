"""Groups whose runs have not all come equally far: how far with how many seeds, and two groups where both have been."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dsac.compare import cells
from dsac.compare.groups import Group
from dsac.compare.results import Run
from dsac.compare.scores import Curve, curve
from dsac.runs.run_files import CURVES

REACHED = 0.95  # of the way is there, as in dsac.compare.groups: another cadence of evaluation
BEYOND = 1.01  # of the way is not beyond: blocks of PPO end where they end


@dataclass(frozen=True)
class Axis:
    """What runs are set beside each other along: where the evaluations of a group's run lie, and a place in words.

    `near`: a run's last evaluation by a point stands for the point from this share of the way on.
    `settled`: only groups count whose learning rate has stopped falling there, see `first_telling`.
    """

    along: Callable[[Group, Run], np.ndarray]
    place: Callable[[float], str]
    near: float = REACHED
    settled: bool = False


ENV_STEPS = Axis(lambda _, run: run.env_steps, "{:,.0f} env steps".format, settled=True)
UPDATES = Axis(lambda _, run: run.updates, "{:,.0f} updates".format)


def time(seconds_per_env_step: Mapping[str, float]) -> Axis:
    """The time of evaluations where nothing slows a run, by the pace of its group's label.

    Times fall between evaluations, so that the last one by then may lie further back.
    """
    return Axis(lambda group, run: run.env_steps * seconds_per_env_step[group.label], cells.duration, near=0.8)


def cut(group: Group, limit: float, axis: Axis = ENV_STEPS) -> Group | None:
    """The runs of a group that were evaluated near `limit` on an axis, up to there; None where none was.

    A run that ended `REACHED` of the way or later, and whose last evaluation by then lies `axis.near` of it or later.
    """
    runs = []
    for run in group.runs:
        place = axis.along(group, run)
        kept = place <= BEYOND * limit
        if place[-1] >= REACHED * limit and kept.any() and place[kept][-1] >= axis.near * limit:
            runs.append(dataclasses.replace(run, **{name: getattr(run, name)[kept] for name in CURVES}))
    return dataclasses.replace(group, runs=tuple(runs)) if runs else None


def apart(points: Iterable[float]) -> list[float]:
    """Points in rising order without those that a further one counts as reached."""
    found: list[float] = []
    for point in sorted(points, reverse=True):
        if not found or point < REACHED * found[-1]:
            found.append(point)
    return found[::-1]


def ends(group: Group, axis: Axis = ENV_STEPS) -> list[float]:
    """The last points that the seeds of a group share: as many as there are lengths of runs, the fewest seeds last."""
    return apart(float(axis.along(group, run)[-1]) for run in group.runs)


def cut_at(group: Group, point: float, axis: Axis) -> Group | None:
    """The runs of a group that may stand beside others at a point of an axis, up to there; None where none may."""
    return None if axis.settled and point < first_telling(group) else cut(group, point, axis)


def first_telling(group: Group) -> float:
    """The env steps from which on a group may stand beside others: its end, where its learning rate falls until then.

    Half of a run whose learning rate would have fallen is not what a run of half the budget had reached.
    """
    constant = group.settings.get("algo.learning_rate_schedule", "constant") == "constant"
    return 0.0 if constant else REACHED * ends(group)[-1]


def meetings(one: Group, other: Group, axis: Axis) -> Iterator[tuple[float, Group, Group]]:
    """Where two groups may be compared on an axis, and both up to there: where one loses a seed that the other has."""
    for point in apart(min(ours, theirs) for ours in ends(one, axis) for theirs in ends(other, axis)):
        if (first := cut_at(one, point, axis)) and (second := cut_at(other, point, axis)):
            yield point, first, second


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
