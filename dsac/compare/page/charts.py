"""What the script of the report draws: curves, final scores, profiles and critics as plain values, and their styles."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsac.compare.comparison import Comparison, Profile
from dsac.compare.groups import Group
from dsac.compare.page.views import Part
from dsac.compare.scores import AXES, Array, curve, final

MOST_POINTS = 256
CALIBRATED = ("mean", "return_mean", "sigma", "return_deviation")
# The colours of report.css by number: an algorithm's first group has its own, others one that
# no algorithm of their tasks has, as long as there are such.
COLOURS, DASHES = 8, 4
OWN_COLOUR = {"dsac_t": 0, "ppo": 1, "sac": 2, "td3": 3, "ddpg": 4, "dsac_v1": 5}
Style = tuple[int, int]


def chart_data(found: Comparison, parts: Sequence[Part], profile_axis: str) -> dict[str, Any]:
    """Everything, for all three axes."""
    measured = [group for group in found.groups if any(run.calibration for run in group.runs)]
    style = styles(
        parts, [{one.label for one in measured if one.env == part.env} for part in parts] + [{*found.profiles}]
    )
    full = {label: name.full for part in parts for label, name in part.names.items()}
    return {
        "by": found.by,
        "axes": AXES,
        "tasks": [task(part, style) for part in parts],
        "profile": [
            {"label": full[label], "style": style[label], **steps(profile)}
            for label, profile in found.profiles.items()
            if label in style
        ],
        "profileAxis": profile_axis,
        "critics": [
            {
                "env": group.env,
                "label": full[group.label],
                "style": style[group.label],
                **{key: pooled(group, key) for key in CALIBRATED},
            }
            for group in measured
            if group.label in style
        ],
    }


def task(part: Part, style: dict[str, Style]) -> dict[str, Any]:
    """A task's groups with their final scores and curves, by their place, and its views."""
    return {
        "env": part.env,
        "groups": {
            index: {
                "style": style[part.groups[index].label],
                "seeds": numbers(final(part.groups[index])),
                "failed": part.groups[index].failed,
                "final": numbers([row.value, row.low, row.high]),
                "curves": {by: line(part.groups[index], by) for by in AXES},
            }
            for index in part.drawn
            for row in [part.summaries[index].final]
        },
        "views": [
            {
                "kind": view.kind,
                "listed": view.listed,
                "told": view.told,
                "called": {index: view.called[index] for index in view.listed},
            }
            for view in part.views
        ],
    }


def styles(parts: Sequence[Part], together: Sequence[Set[str]]) -> dict[str, Style]:
    """A colour and a dash for each label that is drawn: another one than those in colour beside it, if it can be.

    Labels that are in colour in most views choose first; colours are exhausted before dashes. `together` are labels of
    further charts.
    """
    views = [
        ({part.groups[index].label for index in view.told}, {part.groups[index].label for index in view.listed})
        for part in parts
        for view in part.views
    ]
    algorithms = {part.groups[index].label: part.groups[index].algorithm for part in parts for index in part.drawn}
    told = Counter(label for there, _ in views for label in there)
    found: dict[str, Style] = {}
    for label in sorted(algorithms, key=lambda label: -told[label]):
        near = [there if told[label] else listed for there, listed in views]
        beside = set().union(*(labels for labels in near if label in labels))
        others = {OWN_COLOUR.get(algorithms[other]) for other in beside}
        mine = [OWN_COLOUR[algorithms[label]]] if algorithms[label] in OWN_COLOUR else []
        colours = [*mine, *(colour for colour in range(COLOURS - 1) if colour not in others)]  # grey is for context
        wanted = [(colour, 0) for colour in colours]
        wanted += [(colour, dash) for dash in range(1, DASHES) for colour in mine or colours]
        wanted += itertools.product(range(COLOURS), range(DASHES))
        beside = beside.union(*(labels for labels in together if label in labels))
        taken = {found[other] for other in beside if other in found}
        found[label] = next((style for style in wanted if style not in taken), wanted[0])
    return found


def line(group: Group, by: str) -> dict[str, Any]:
    """A group's curve on an axis."""
    drawn = curve(group, by)
    return {
        "x": numbers(drawn.x),
        "mean": numbers(drawn.mean),
        "low": numbers(drawn.low),
        "high": numbers(drawn.high),
        "seeds": [[numbers(x[thinned(x)]), numbers(y[thinned(x)])] for x, y in drawn.seeds],
    }


def thinned(x: Array) -> NDArray[np.int64]:
    """Which of a seed's evaluations are drawn: all, or so many of them that a page of many tasks stays light."""
    return np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(np.int64))


def steps(profile: Profile) -> dict[str, Any]:
    """A profile as a line with corners."""
    levels = {"mean": profile.share, "low": profile.low, "high": profile.high}
    corners = {key: numbers(np.repeat(level, 2)[:-1]) for key, level in levels.items()}
    return {"x": numbers(np.repeat(profile.thresholds, 2)[1:]), "seeds": [], **corners}


def pooled(group: Group, key: str) -> list[float] | None:
    """A column of the calibration of all seeds; None where the critics have no such thing."""
    columns = [run.calibration[key] for run in group.runs if run.calibration and key in run.calibration]
    return [value for column in columns for value in column] or None


def numbers(values: Any) -> list[float | None]:
    """Six digits of each, null for what is no number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in np.ravel(values)]
