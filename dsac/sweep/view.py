"""All runs of a sweep on the screen: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from dsac.cli.live import LiveScreen
from dsac.cli.progress import PLAIN_LINE_SECONDS, clock
from dsac.sweep.runner import ELSEWHERE, FAILED, FINISHED_RUN, STOPPED, TRAINING, WAITING, Run

ORDER = (TRAINING, ELSEWHERE, FAILED, STOPPED, FINISHED_RUN, WAITING)


class View(LiveScreen):
    """Shows runs when told to, and says once what became of each. A context manager.

    head: the line above all runs, made of them and the number of slots; None: `summary`
    """

    def __init__(self, head: Callable[[Sequence[Run], int], str] | None = None) -> None:
        self.head = head or summary
        super().__init__(Console(file=sys.stderr), redirect_stderr=False)
        self.states: dict[int, str] = {}
        self.drawn = -PLAIN_LINE_SECONDS

    def show(self, runs: Sequence[Run], slots: int) -> None:
        """Draw what changed, with `slots` runs at a time: cheap enough for several times a second."""
        for index, run in enumerate(runs):
            if run.state != self.states.setdefault(index, run.state):
                self.states[index] = run.state
                self.say(event(run))
        if self.console.is_terminal:
            self.live.update(table(runs, self.head(runs, slots), self.console.height), refresh=True)
        elif time.monotonic() - self.drawn >= PLAIN_LINE_SECONDS:
            self.drawn = time.monotonic()
            for run in runs:
                if run.state in (TRAINING, ELSEWHERE):
                    self.say(plain_line(run))
            self.say(self.head(runs, slots))

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def event(run: Run) -> str:
    """A change of state in a line."""
    score = "" if run.score is None or run.state == TRAINING else f", last evaluation {run.score:,.1f}"
    why = f" (exit {run.code}): {run.error}" if run.state == FAILED else ""
    at = f" at {run.env_steps:,} env steps" if run.env_steps and run.state != FINISHED_RUN else ""
    return f"{run.state}  {run.planned.title}{at}{score}{why}"


def cells(run: Run) -> dict[str, str]:
    """The numbers of a run by the heads of their columns, empty where not known."""
    total = run.planned.config.total_env_steps
    status = run.status if run.state in (TRAINING, ELSEWHERE) else {}
    rates = {key: status.get(f"{key}_per_second", 0.0) for key in ("env_steps", "updates")}
    seconds = seconds_left(run) if status else None
    return {
        "env steps": f"{run.env_steps:,}/{total:,}",
        "done": f"{min(run.env_steps / total, 1):.0%}",
        "env steps/s": f"{rates['env_steps']:,.0f}" if rates["env_steps"] else "",
        "updates/s": f"{rates['updates']:,.0f}" if rates["env_steps"] else "",
        "left": "" if seconds is None else clock(seconds),
        "last evaluation": "" if run.score is None else f"{run.score:,.1f}",
    }


def plain_line(run: Run) -> str:
    """A run at work in a line: its numbers with their heads."""
    return "  ".join([run.planned.title, *(f"{head} {cell}" for head, cell in cells(run).items() if cell)])


def seconds_left(run: Run) -> float | None:
    """What the rest of a run takes at its pace so far; None where that is not known."""
    rate = run.status.get("env_steps_per_second", 0.0)
    return max(run.planned.config.total_env_steps - run.env_steps, 0) / rate if rate else None


def summary(runs: Sequence[Run], slots: int) -> str:
    """How many runs are in which state, and the time left for all.

    Runs that wait are taken to go as fast as those of their task and algorithm that have been seen, or as any.
    """
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    paces: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        if rate := run.status.get("env_steps_per_second"):
            for kind in (kind_of(run), ()):
                paces.setdefault(kind, []).append(1 / rate)
    seconds = 0.0
    for run in runs:
        pace = paces.get(kind_of(run)) or paces.get(())
        if pace and run.state in (TRAINING, ELSEWHERE, WAITING):
            steps = run.planned.config.total_env_steps - run.env_steps
            seconds += steps * sum(pace) / len(pace)
    left = f"  about {clock(seconds / min(slots, len(runs)))} left" if seconds else ""
    return f"{states} of {len(runs)}{left}"


def kind_of(run: Run) -> tuple[str, ...]:
    """Runs of one kind cost alike: task and algorithm."""
    return (run.planned.config.env.id or run.planned.config.env.name, run.planned.config.algo.name)


def table(runs: Sequence[Run], title: str, height: int) -> Table:
    """The runs, those at work first, as many as fit into `height` lines."""
    grid = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for head in ("run", "state"):
        grid.add_column(head, no_wrap=True)
    for head in cells(runs[0]):
        grid.add_column(head, no_wrap=True, justify="right")
    ordered = sorted(runs, key=lambda run: ORDER.index(run.state))
    shown = ordered[: max(height - 4, 1)]
    for run in shown:
        grid.add_row(run.planned.title, run.state, *cells(run).values())
    if len(shown) < len(ordered):
        grid.caption = f"and {len(ordered) - len(shown)} more"
    return grid
