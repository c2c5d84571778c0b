"""A study as one picture: the values of its trials in order, and over each field that was searched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsac.compare.figures import COLUMN, PAGE, ROW, STYLE, new_figure, say_ticks
from dsac.schema import files
from dsac.schema.validate import plain_value
from dsac.tune.search_space import Choices, Range, Space
from dsac.tune.study import COMPLETE, PRUNED, Trial

MARKS = {COMPLETE: ("o", "#0072B2"), PRUNED: ("x", "#999999")}
ACROSS = 3


def draw(trials: Sequence[Trial], space: Space, folder: Path) -> Path:
    """Write tune.png: the history with the best so far, and a slice for each field; complete and pruned trials."""
    import matplotlib as mpl

    panels = 1 + len(space)
    across = min(panels, ACROSS)
    down = -(-panels // across)
    with mpl.rc_context(STYLE):
        figure = new_figure((PAGE if across > 1 else COLUMN, down * ROW))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(down, across, squeeze=False)
        axes = list(grid.flat)
        for left_over in axes[panels:]:
            left_over.set_axis_off()
        history(axes[0], trials)
        for place, key in zip(axes[1:], space, strict=False):
            a_slice(place, trials, key, space[key])
        for row in grid:
            row[0].set_ylabel("value", labelpad=1.5)
        path = folder / "tune.png"
        with os.fdopen(files.create(path), "wb") as file:
            figure.savefig(file, format="png", dpi=200, metadata={"Software": None})
    return path


def history(axes: Any, trials: Sequence[Trial]) -> None:
    """Values in the order of the trials, with the best complete one so far as a line."""
    best, steps = float("-inf"), []
    for trial in trials:
        if trial.state == COMPLETE and trial.value is not None:
            best = max(best, trial.value)
        if best > float("-inf"):
            steps.append((trial.number, best))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color="#D55E00", linewidth=1.0, label="best so far")
    dots(axes, trials, {trial.number: float(trial.number) for trial in trials})
    axes.set_xlabel("trial", labelpad=1.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, loc="best", handlelength=1.2)
    say_ticks(axes.yaxis)


def a_slice(axes: Any, trials: Sequence[Trial], key: str, part: Range | Choices) -> None:
    """Values over one field; choices stand side by side."""
    settings = {trial.number: trial.settings[key] for trial in trials if key in trial.settings}
    if isinstance(part, Choices):
        dots(axes, trials, {number: float(part.words.index(word)) for number, word in settings.items()})
        axes.set_xticks(range(len(part.words)), part.words)
        axes.set_xlim(-0.5, len(part.words) - 0.5)
    else:
        if part.log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(lambda _value, _place: "")
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
        dots(axes, trials, {number: float(plain_value(word)) for number, word in settings.items()})
        room = (part.high / part.low) ** 0.03 if part.log else 0.03 * (part.high - part.low)
        axes.set_xlim(*((part.low / room, part.high * room) if part.log else (part.low - room, part.high + room)))
    axes.set_xlabel(key, labelpad=1.5)
    say_ticks(axes.yaxis)


def dots(axes: Any, trials: Sequence[Trial], places: dict[int, float]) -> None:
    """A mark for each trial with a value, by its state; the base trial has a ring."""
    for state, (mark, colour) in MARKS.items():
        shown = [trial for trial in trials if trial.state == state and trial.value is not None]
        shown = [trial for trial in shown if trial.number in places]
        if shown:
            x, y = [places[trial.number] for trial in shown], [trial.value for trial in shown]
            axes.plot(x, y, mark, color=colour, markersize=3, label=state)
    for base in (trial for trial in trials if trial.base and trial.value is not None and trial.number in places):
        ring = {"markerfacecolor": "none", "color": "#000000", "markersize": 6, "markeredgewidth": 0.7}
        axes.plot([places[base.number]], [base.value], "o", label="own settings", **ring)
