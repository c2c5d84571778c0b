"""Runs on the screen: a live table on a terminal, plain lines elsewhere, or one plain table."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsac.cli.live import LiveScreen
from dsac.cli.progress import PLAIN_LINE_SECONDS, clock
from dsac.watch.run_state import FAILED, FINISHED, ORDER, STOPPED, TRAINING, UNREADABLE, RunState

CURVE_WIDTH = 20
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
WIDE, LEFT_OUT = 130, ("done", "env steps/s", "updates/s")  # columns that a narrow screen has no room for
STYLES = {TRAINING: "cyan", FAILED: "red", UNREADABLE: "red", STOPPED: "yellow", FINISHED: "green"}
RIGHT = ("env steps", "done", "env steps/s", "updates/s", "left", "last evaluation")


class LiveView(LiveScreen):
    """Shows runs when told to; where there is no terminal each change of state once. A context manager."""

    def __init__(self) -> None:
        super().__init__(Console())
        self.states: dict[str, str] = {}
        self.said = -PLAIN_LINE_SECONDS

    def show(self, runs: Sequence[RunState]) -> None:
        """Draw the runs, or say what changed and, now and then, how far those in training are."""
        if self.console.is_terminal:
            room = max(self.console.height - 4, 1)
            self.live.update(table(runs, room, bars_for(self.console.encoding), self.console.width), refresh=True)
            return
        first, before = not self.states, self.states
        self.states = {run.run: run.state for run in runs}
        for run in runs:
            if not first and before.get(run.run) != run.state:
                self.say(f"{run.state}  {line_of(run)}")
        if time.monotonic() - self.said >= PLAIN_LINE_SECONDS:
            self.said = time.monotonic()
            for run in runs:
                if run.state == TRAINING:
                    self.say(line_of(run))
            self.say(summary(runs))

    def say(self, line: str) -> None:
        print(encodable(line), flush=True)


def cells(run: RunState, bars: str) -> dict[str, str]:
    """What is said of a run by the heads of the columns, empty where not known."""
    rates = run.rates or {}
    total = run.total_env_steps
    return {
        "run": run.run,
        "state": run.state,
        "curve": sparkline(run.curve, CURVE_WIDTH, bars),
        "env steps": f"{run.env_steps:,}/{total:,}" if total else "",
        "done": f"{min(run.env_steps / total, 1):.0%}" if total else "",
        "env steps/s": f"{rates['env_steps']:,.0f}" if "env_steps" in rates else "",
        "updates/s": f"{rates['updates']:,.0f}" if "updates" in rates else "",
        "left": "" if run.seconds_left is None else clock(run.seconds_left),
        "last evaluation": "" if run.score is None else f"{run.score:,.1f}",
        "why": run.why,
    }


def line_of(run: RunState) -> str:
    """A run in a line: its numbers with their heads."""
    said = cells(run, bars_for(sys.stdout.encoding))
    return "  ".join([said.pop("run"), *(f"{head} {said[head]}" for head in (*RIGHT, "why") if said[head])])


def table(runs: Sequence[RunState], room: int, bars: str, width: int) -> Table:
    """The runs, as many as fit into `room` lines of `width` letters, and the columns that say something of them."""
    grid = Table(box=None, pad_edge=False, title=summary(runs), title_justify="left", title_style="bold")
    rows = [cells(run, bars) for run in runs[:room]]
    heads = [head for head in cells(RunState("", ""), bars) if any(row[head] for row in rows)]
    heads = [head for head in heads if width >= WIDE or head not in LEFT_OUT]
    for head in heads:
        grid.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if head in RIGHT else "left")
    for run, row in zip(runs, rows, strict=False):
        style = {"state": STYLES[run.state], "curve": "cyan"}
        grid.add_row(*(Text(row[head], style.get(head, "")) for head in heads))
    if len(runs) > room:
        grid.caption = f"and {len(runs) - room:,} more"
    return grid


def print_table(runs: Sequence[RunState]) -> None:
    """All runs as a plain table on stdout, a line each, however wide the screen is."""
    bars = bars_for(sys.stdout.encoding)
    rows = [cells(run, bars) for run in runs]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in heads}
    for row in ({head: head for head in heads}, *rows):
        fitted = (row[head].rjust(widths[head]) if head in RIGHT else row[head].ljust(widths[head]) for head in heads)
        print(encodable("  ".join(fitted).rstrip()))
    print(summary(runs))


def summary(runs: Sequence[RunState]) -> str:
    """How many runs are in which state."""
    counts = Counter(run.state for run in runs)
    if not runs:
        return "no run yet"
    return f"{', '.join(f'{counts[state]:,} {state}' for state in ORDER if counts[state])} of {len(runs):,}"


def sparkline(values: Sequence[float], width: int, bars: str) -> str:
    """A curve in so many letters or fewer, from its lowest value to its highest."""
    if len(values) > width:
        edges = [index * len(values) // width for index in range(width + 1)]
        values = [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
    if not values:
        return ""
    low, span = min(values), max(values) - min(values)
    return "".join(bars[round((value - low) / span * (len(bars) - 1)) if span else 0] for value in values)


def bars_for(encoding: str | None) -> str:
    """The letters of curves that a stream can take."""
    try:
        BARS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN_BARS
    return BARS


def encodable(text: str) -> str:
    """Text that stdout can take."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
