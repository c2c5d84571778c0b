"""How far a run is, on the screen. Imports no torch, so that the bar is there while the rest still loads."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

REDRAW_SECONDS = 0.25
RATE_SECONDS = 2.0
PLAIN_LINE_SECONDS = 10.0
Item = TypeVar("Item")


class Training(Protocol):
    """A training, as far as a bar shows it."""

    @property
    def algorithm(self) -> Any: ...

    @property
    def env_steps(self) -> int: ...

    @property
    def warmup_env_steps(self) -> int: ...

    @property
    def updates(self) -> int: ...

    @property
    def total_env_steps(self) -> int: ...

    @property
    def finished(self) -> bool: ...


class ProgressBar:
    """A live bar on a terminal; a plain line every ten seconds elsewhere. A context manager: an error clears the bar.

    transient: so does its end.
    Env steps and their rate are those of one learner.
    """

    def __init__(self, title: str, transient: bool = False) -> None:
        self.title, self.transient, self.console = title, transient, Console(file=sys.stderr)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            console=self.console,
            disable=not self.live,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
        )
        self.task = self.progress.add_task(f"{title} · starting", total=None, facts="")
        self.drawn = -PLAIN_LINE_SECONDS
        self.mark: tuple[float, int, int] | None = None
        self.learning_since: tuple[float, int] | None = None
        self.rates = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.live.transient = self.transient or kind is not None
        self.progress.stop()

    def show(self, trainer: Training, score: float | None) -> None:
        """Redraw when it is time: cheap enough for every block."""
        now = time.monotonic()
        self.measure(now, trainer)
        if not self.due(now) and not trainer.finished:
            return
        warmup = trainer.algorithm.warmup_env_steps
        warming_up = trainer.env_steps == 0 and warmup > 0
        done, total = (trainer.warmup_env_steps, warmup) if warming_up else (trainer.env_steps, trainer.total_env_steps)
        title = f"{self.title} · warm-up" if warming_up else self.title
        facts = f"{done:,}/{total:,} env steps{self.rates}{self.time_left(now, trainer)}"
        if score is not None:
            facts += f"  last evaluation {score:,.1f}"
        self.render(now, title, done, total, facts)

    def show_evaluation(self, played: int, episodes: int, step: int) -> None:
        """Redraw when it is time while policies are scored: the episodes played, the step of those that are running."""
        now = time.monotonic()
        if self.due(now):
            facts = f"{played:,}/{episodes:,} episodes  step {step:,}"
            self.render(now, f"{self.title} · evaluation", played, episodes, facts)

    def due(self, now: float) -> bool:
        """Whether the last drawing is old enough."""
        return now - self.drawn >= (REDRAW_SECONDS if self.live else PLAIN_LINE_SECONDS)

    def render(self, now: float, title: str, done: int, total: int, facts: str) -> None:
        """The bar, or a line where there is no terminal."""
        self.drawn = now
        if self.live:
            self.progress.update(self.task, description=title, completed=done, total=total, facts=facts)
        else:
            self.console.print(f"{title}  {facts}", highlight=False, soft_wrap=True)

    def measure(self, now: float, trainer: Training) -> None:
        """Take the rates anew when the last ones are old enough."""
        steps = trainer.env_steps + trainer.warmup_env_steps
        if self.learning_since is None and trainer.env_steps > 0:
            self.learning_since = (now, trainer.env_steps)
        if self.mark is None:
            self.mark = (now, steps, trainer.updates)
        seconds = now - self.mark[0]
        if seconds >= RATE_SECONDS:
            env_rate, update_rate = (steps - self.mark[1]) / seconds, (trainer.updates - self.mark[2]) / seconds
            self.rates = f"  {env_rate:,.0f} env steps/s  {update_rate:,.0f} updates/s"
            self.mark = (now, steps, trainer.updates)

    def time_left(self, now: float, trainer: Training) -> str:
        """What the rest of the budget takes at the pace since learning began, or went on; evaluations included."""
        if self.learning_since is None:
            return ""
        since, steps_then = self.learning_since
        steps = trainer.env_steps - steps_then
        if now - since < RATE_SECONDS or steps == 0:
            return ""
        to_go = max(0, trainer.total_env_steps - trainer.env_steps)  # the last block may pass the budget
        return f"  {clock(to_go * (now - since) / steps)} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def following(title: str, items: Iterable[Item], total: int, quiet_seconds: float = 0.0) -> Iterator[Item]:
    """Hand items on under a bar: how many of `total` are done, how long the rest takes; elsewhere a line each.

    quiet_seconds: elsewhere nothing for so long, and then not more than a line in that time
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn(title), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=quiet_seconds > 0) as progress:
        task = progress.add_task(title, total=total)
        for done, item in enumerate(items, 1):
            progress.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - said >= quiet_seconds:
                said = time.monotonic()
                console.print(f"{title} {done}/{total}", highlight=False)
            yield item


class StageBar:
    """A live bar over the stages of one command; a plain line a stage elsewhere. A context manager."""

    def __init__(self, title: str, stages: int) -> None:
        self.title, console = title, Console(file=sys.stderr)
        self.live = console.is_terminal
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), *times)
        self.progress = Progress(*columns, console=console, disable=not self.live, transient=True)
        self.task = self.progress.add_task(f"{title} · starting", total=stages)
        self.started = 0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def show(self, stage: str) -> None:
        """Say what begins now; the stage before is done."""
        if self.live:
            self.progress.update(self.task, description=f"{self.title} · {stage}", completed=self.started)
        else:
            self.progress.console.print(f"{self.title} · {stage}", highlight=False, soft_wrap=True)
        self.started += 1
