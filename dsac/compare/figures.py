"""A comparison as pictures for a paper: a column wide, labels at the lines, colours safe for colour-blind eyes."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac.compare.calibration import Calibration
from dsac.compare.comparison import Comparison, Profile
from dsac.compare.groups import Group
from dsac.compare.scores import AXES, Curve
from dsac.errors import ConfigError

MISSING_EXTRA = "curves need matplotlib: pip install -e '.[compare]', or leave them out with curves=false"
COLUMN, PAGE, ROW, FOOT = 3.3, 6.9, 1.85, 0.14  # inches: the text of a paper in two columns
# Okabe and Ito's colours (2008) without the yellow, which is too light for lines.
COLOURS = {
    "dsac_t": "#0072B2", "ppo": "#D55E00", "sac": "#009E73", "td3": "#CC79A7", "ddpg": "#E69F00", "dsac_v1": "#56B4E9",
    "dsac_x": "#000000",
}  # fmt: skip
SPARE = ("#888888",)
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
MARKERS = dict(zip(DASHES, "o^sD", strict=True))
STYLE: Any = {
    "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7, "xtick.labelsize": 6.5, "ytick.labelsize": 6.5,
    "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "axes.grid": True, "grid.color": "#E6E6E6", "grid.linewidth": 0.5, "axes.axisbelow": True, "lines.linewidth": 1.3,
    "svg.fonttype": "none", "text.parse_math": False, "svg.hashsalt": "dsac", "axes.formatter.limits": (-4, 5),
}  # fmt: skip


def installed() -> bool:
    """Whether there is something to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


def check() -> None:
    """Raise ConfigError where there is nothing to draw with."""
    if not installed():
        raise ConfigError(MISSING_EXTRA)


def styles(groups: Sequence[Group]) -> dict[str, tuple[str, Any]]:
    """Colour and dashes by label: an algorithm keeps its colour in every picture, its groups differ in dashes.

    More groups of one algorithm alone than there are dashes differ in colours first.
    """
    found: dict[str, tuple[str, Any]] = {}
    algorithms, labels = {group.algorithm for group in groups}, {group.label for group in groups}
    if len(algorithms) == 1 and len(labels) > len(DASHES):
        palette = [*COLOURS.values(), *SPARE]
        for number, label in enumerate(dict.fromkeys(group.label for group in groups)):
            found[label] = (palette[number % len(palette)], DASHES[number // len(palette) % len(DASHES)])
        return found
    others = sorted(algorithms - COLOURS.keys())
    colours = COLOURS | {name: SPARE[index % len(SPARE)] for index, name in enumerate(others)}
    used: dict[str, int] = {}
    for group in groups:
        if group.label not in found:
            number = used.get(group.algorithm, 0)
            used[group.algorithm] = number + 1
            found[group.label] = (colours[group.algorithm], DASHES[number % len(DASHES)])
    return found


class Page:
    """Panels of a figure, placed by the inch: room for the labels at the lines' ends is kept at the right of each."""

    LEFT, BOTTOM, TOP = 0.47, 0.36, 0.24

    def __init__(self, panels: int, labels: Sequence[str]) -> None:
        across = 1 if panels <= 3 else 2 if panels <= 8 else 3
        down = -(-panels // across)
        size = (COLUMN if across == 1 else PAGE, down * ROW + FOOT)
        self.figure = new_figure(size)
        longest = max((len(line) for label in labels for line in wrapped(label).split("\n")), default=0)
        right = 0.22 + 0.062 * min(longest, 24)  # what is longer runs out of the picture, the curves stay
        self.axes = []
        for panel in range(panels):
            row, column = divmod(panel, across)
            left, bottom = column * size[0] / across + self.LEFT, size[1] - (row + 1) * ROW + self.BOTTOM
            width, height = size[0] / across - self.LEFT - right, ROW - self.BOTTOM - self.TOP
            self.axes.append(
                self.figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
            )

    def note(self, text: str) -> None:
        """A line below all panels."""
        self.figure.text(
            0.05 / self.figure.get_figwidth(), 0.05 / self.figure.get_figheight(), text, color="#666666", size=6
        )


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of (width, height) inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, stem: Path) -> list[Path]:
    """Write stem.png and stem.svg, the same bytes each time."""
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    figure.savefig(paths[0], dpi=300, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None})
    return paths


def wrapped(label: str) -> str:
    """A label in lines of at most 16 characters where it can be broken: at spaces and after =."""
    return textwrap.fill(label.replace("=", "= "), 16, break_long_words=False).replace("= ", "=")


def label_ends(axes: Any, ends: Mapping[str, float], style: Mapping[str, tuple[str, Any]]) -> None:
    """Write each label at the right of the axes, at the height of its line's end or as near as others allow."""
    figure = axes.figure
    height = axes.get_position().height * figure.get_figheight() * 72  # points
    low, high = axes.get_ylim()
    order = sorted(ends, key=lambda label: ends[label])
    sizes = [8.2 * (1 + wrapped(label).count("\n")) for label in order]
    wanted = [(ends[label] - low) / (high - low) * height for label in order]
    for place, label, end in zip(apart(wanted, sizes, height), order, wanted, strict=True):
        colour = style[label][0]
        axes.annotate(
            "", (1.0, end / height), (1.045, place / height), "axes fraction", "axes fraction",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )  # fmt: skip
        axes.text(1.06, place / height, wrapped(label), transform=axes.transAxes, color=darker(colour), va="center",
                  linespacing=1.0)  # fmt: skip


def apart(wanted: Sequence[float], sizes: Sequence[float], height: float) -> list[float]:
    """Centres near those wanted, in rising order, such that labels of these sizes do not overlap nor leave the height.

    Labels that would overlap form a block around the mean of what they want; blocks that would overlap become one.
    """
    blocks: list[list[int]] = []
    starts: list[float] = []

    def block_start(members: Sequence[int]) -> float:
        offsets = np.cumsum([0.0, *[sizes[i] for i in members[:-1]]]) + np.array([sizes[i] / 2 for i in members])
        start = float(np.mean([wanted[i] for i in members] - offsets))
        return max(min(start, height - sum(sizes[i] for i in members)), 0.0)

    for index in range(len(wanted)):
        blocks.append([index])
        starts.append(block_start(blocks[-1]))
        while len(blocks) > 1 and starts[-2] + sum(sizes[i] for i in blocks[-2]) > starts[-1]:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
            starts[-2:] = [block_start(blocks[-1])]
    places = []
    for start, members in zip(starts, blocks, strict=True):
        position = start
        for index in members:
            places.append(position + sizes[index] / 2)
            position += sizes[index]
    return places


def darker(colour: str) -> str:
    """A colour for text on white: three quarters as bright."""
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * 0.75):02x}" for i in (1, 3, 5))


def draw(found: Comparison, critics: Sequence[Calibration], folder: Path) -> list[Path]:
    """Every figure of a comparison, in a folder; the files."""
    style = styles(found.groups)
    files = draw_curves(found.curves, found.by, style, folder / "curves")
    if found.profiles:
        files += draw_profile(found.profiles, found.tasks, style, folder / "profile")
    if critics:
        files += draw_critics(found.groups, style, folder / "critics")
    return files


def draw_curves(
    curves: Mapping[str, Mapping[str, Curve]], by: str, style: Mapping[str, tuple[str, Any]], stem: Path
) -> list[Path]:
    """Learning curves, {task: {label: curve}}: a panel a task, mean and 95% band over seeds. Returns the files."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        page = Page(len(curves), list(style))
        for axes, (env, lines) in zip(page.axes, curves.items(), strict=True):
            ends = {}
            for label, line in lines.items():
                colour, dashes = style[label]
                if len(line.x):
                    axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
                    axes.plot(line.x, line.mean, color=colour, linestyle=dashes)
                    ends[label] = float(line.mean[-1])
            axes.set_title(env, loc="left", fontweight="bold")
            axes.set_xlabel(AXES[by], labelpad=1.5)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
            say_ticks(axes.xaxis, axes.yaxis)
            axes.margins(x=0.01)
            label_ends(axes, ends, style)
        page.axes[0].set_ylabel("return", labelpad=1.5)
        page.note("Mean over seeds of the deterministic policy's return; 95% interval.")
        return save(page.figure, stem)


def say_ticks(*axes: Any) -> None:
    """Ticks as one says them: 8,000 up to ten thousand, beyond 250k and 1.5M."""
    for axis in axes:
        largest = max(map(abs, axis.get_view_interval()))
        size, letter = (1e6, "M") if largest >= 1e6 else (1e3, "k") if largest > 1e4 else (1, "")
        axis.set_major_formatter(
            lambda value, _, size=size, letter=letter: f"{value / size:,g}{letter}" if value else "0"
        )


def draw_profile(
    profiles: Mapping[str, Profile], tasks: Sequence[str], style: Mapping[str, tuple[str, Any]], stem: Path
) -> list[Path]:
    """Performance profiles by label: the share of runs that end above a score."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        page = Page(1, list(profiles))
        (axes,) = page.axes
        for label, profile in profiles.items():
            colour, dashes = style[label]
            band = {"step": "post", "color": colour, "alpha": 0.18, "linewidth": 0}
            axes.fill_between(profile.thresholds, profile.low, profile.high, **band)
            axes.step(
                profile.thresholds, profile.share, where="post", color=colour, linestyle=dashes, label=wrapped(label)
            )
        axes.set_ylim(-0.02, 1.02)
        axes.margins(x=0)
        axes.set_title("Share of runs that end above a score", loc="left", fontweight="bold")
        one = f"final return, {tasks[0]}"
        axes.set_xlabel(one if len(tasks) == 1 else "final score: 0 lowest, 1 highest run of a task", labelpad=1.5)
        say_ticks(axes.xaxis)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1.05), frameon=False, handlelength=1.2, handletextpad=0.5)
        page.note("95% interval at each score.")
        return save(page.figure, stem)


def draw_critics(groups: Sequence[Group], style: Mapping[str, tuple[str, Any]], stem: Path) -> list[Path]:
    """Predicted against realised, a dot a state: for each task the mean of the return, and where learned its spread."""
    import matplotlib as mpl

    tasks = list(dict.fromkeys(group.env for group in groups if any(run.calibration for run in group.runs)))
    with mpl.rc_context(STYLE):
        size = (COLUMN, len(tasks) * ROW + 2.4 * FOOT)
        figure = new_figure(size)
        for row, env in enumerate(tasks):
            for column, (predicted, realised) in enumerate((("mean", "return_mean"), ("sigma", "return_deviation"))):
                left, bottom = 0.44 + 1.66 * column, size[1] - (row + 1) * ROW + 0.42
                axes = figure.add_axes((left / size[0], bottom / size[1], 1.16 / size[0], 1.16 / size[1]))
                dots(axes, [group for group in groups if group.env == env], predicted, realised, style)
                axes.set_xlabel(("mean of the returns", "their spread")[column], labelpad=1.5)
                axes.set_ylabel(("predicted mean", "predicted sigma")[column], labelpad=1.5)
            figure.text(0.44 / size[0], (bottom + 1.24) / size[1], env, fontweight="bold", fontsize=7.5)
        entries = [
            mpl.lines.Line2D([], [], linestyle="", marker=MARKERS[dashes], markersize=3, color=colour, label=label)
            for label, (colour, dashes) in style.items()
            if any(run.calibration for group in groups if group.label == label for run in group.runs)
        ]
        figure.legend(handles=entries, loc="lower left", ncols=3, frameon=False, handletextpad=0, columnspacing=1)
        return save(figure, stem)


def dots(
    axes: Any, groups: Sequence[Group], predicted: str, realised: str, style: Mapping[str, tuple[str, Any]]
) -> None:
    """A dot for each state of each seed, and the line on which prediction and return agree."""
    every = []
    for group in groups:
        for run in group.runs:
            if run.calibration and predicted in run.calibration:
                x, y = np.array(run.calibration[realised]), np.array(run.calibration[predicted])
                colour, dashes = style[group.label]
                axes.plot(x, y, MARKERS[dashes], color=colour, markersize=1.8, alpha=0.5, markeredgewidth=0)
                every += [x, y]
    if every:
        low, high = min(map(np.min, every)), max(map(np.max, every))
        axes.plot([low, high], [low, high], color="#444444", linewidth=0.6)
    else:
        axes.text(0.5, 0.5, "no critic learns it", transform=axes.transAxes, ha="center", color="#666666")
    axes.locator_params(nbins=4)
    say_ticks(axes.xaxis, axes.yaxis)
