"""What a run tells: a progress bar, TensorBoard curves and a table of numbers for each learner.

metrics.csv is in long form, one number a row: env_steps, updates, wall_time, tag, value. Nothing is rewritten, a new
tag needs no new column, and a resumed run cuts the file where its checkpoint stood.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from dsac.trainer import Trainer

HEADER = "env_steps,updates,wall_time,tag,value\n"
PLAIN_LINE_SECONDS = 10.0


class Curves:
    """The numbers of one learner, to TensorBoard and to metrics.csv, on env steps."""

    def __init__(self, folder: Path, saved: Mapping[str, int] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.csv = (folder / "metrics.csv").open("a+")
        if saved is None:
            self.csv.write(HEADER)
            self.tensorboard = SummaryWriter(str(folder))
        else:
            self.csv.truncate(saved["csv_bytes"])
            self.tensorboard = SummaryWriter(str(folder), purge_step=saved["env_steps"] + 1)

    def write(self, values: Mapping[str, float], trainer: Trainer) -> None:
        """Append values by tag at the trainer's present step."""
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        for tag, value in values.items():
            self.tensorboard.add_scalar(tag, value, trainer.env_steps)
            table.writerow([trainer.env_steps, trainer.updates, f"{trainer.wall_time:.2f}", tag, repr(float(value))])
        self.csv.write(rows.getvalue())

    def flush(self) -> int:
        """Write out what is buffered; the length of metrics.csv in bytes."""
        self.tensorboard.flush()
        self.csv.flush()
        return self.csv.seek(0, io.SEEK_END)

    def close(self) -> None:
        self.flush()
        self.tensorboard.close()
        self.csv.close()


class Logger:
    """Writes every learner's curves and draws the progress of the run."""

    def __init__(self, run: Path, learners: int, title: str, saved: dict[str, Any] | None = None) -> None:
        offsets = saved["curves"] if saved else [None] * learners
        self.curves = [Curves(run / f"learner-{index}", offset) for index, offset in enumerate(offsets)]
        self.last_score: float | None = saved["last_score"] if saved else None
        self.bar = ProgressBar(title)
        self.mark: tuple[float, int, int] | None = None

    def __call__(self, trainer: Trainer) -> None:
        """The logging task: recent episodes, the latest update's metrics, rates. Only here is the device waited for."""
        now = (time.monotonic(), trainer.env_steps, trainer.updates)
        rates = {}
        if self.mark is not None and now[0] > self.mark[0]:
            seconds = now[0] - self.mark[0]
            rates = {
                "rate/env_steps_per_second": (now[1] - self.mark[1]) * len(self.curves) / seconds,
                "rate/updates_per_second": (now[2] - self.mark[2]) / seconds,
            }
        self.mark = now
        metrics = {name: value.tolist() for name, value in trainer.metrics.items()}
        for learner, curves in enumerate(self.curves):
            values = {f"train/{name}": value[learner] for name, value in metrics.items()}
            episodes = trainer.collector.take_finished(learner)
            if episodes:
                values["collect/return"] = float(np.mean([episode.return_ for episode in episodes]))
                values["collect/length"] = float(np.mean([episode.length for episode in episodes]))
                terms = np.mean([episode.reward_terms for episode in episodes], 0)
                names = trainer.collector.spec.reward_terms
                values |= {f"reward/{name}": float(term) for name, term in zip(names, terms, strict=True)}
            curves.write(
                values | rates | {"progress/updates": trainer.updates, "progress/wall_time": trainer.wall_time}, trainer
            )

    def show(self, trainer: Trainer) -> None:
        """The drawing task: cheap, after every block."""
        self.bar.show(trainer, self.last_score)

    def record_score(self, learner: int, values: Mapping[str, float], trainer: Trainer) -> None:
        """Append an evaluation of one learner and flush, so that TensorBoard shows it at once."""
        self.curves[learner].write(values, trainer)
        self.curves[learner].flush()
        if learner == 0:
            self.last_score = values["eval/return"]

    def state_dict(self, trainer: Trainer) -> dict[str, Any]:
        """Where the curves end, for a resume that continues them."""
        curves = [{"csv_bytes": curves.flush(), "env_steps": trainer.env_steps} for curves in self.curves]
        return {"curves": curves, "last_score": self.last_score}

    def close(self) -> None:
        self.bar.close()
        for curves in self.curves:
            curves.close()


class ProgressBar:
    """A live bar on a terminal; a plain line every ten seconds elsewhere."""

    def __init__(self, title: str) -> None:
        self.title, self.console = title, Console(file=sys.stderr)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.live,
            refresh_per_second=4,
        )
        self.task = self.progress.add_task(f"{title} · starting", total=None, facts="")
        self.progress.start()
        self.mark = (time.monotonic(), 0, 0)
        self.rates = ""
        self.drawn = 0.0

    def show(self, trainer: Trainer, score: float | None) -> None:
        """Refresh at most four times a second; rates are measured over at least two seconds."""
        now = time.monotonic()
        if now - self.drawn < 0.25 and not trainer.finished:
            return
        steps = trainer.env_steps + trainer.warmup_env_steps
        since, steps_then, updates_then = self.mark
        if steps_then == 0:
            self.mark = (now, steps, trainer.updates)
        elif now - since > 2:
            env_rate, update_rate = (
                (now_ - then) / (now - since) for now_, then in ((steps, steps_then), (trainer.updates, updates_then))
            )
            self.rates = f"{env_rate:,.0f} env steps/s  {update_rate:,.0f} updates/s"
            self.mark = (now, steps, trainer.updates)
        warming_up = trainer.env_steps == 0 and trainer.algorithm.warmup_env_steps > 0
        done, total = (
            (trainer.warmup_env_steps, trainer.algorithm.warmup_env_steps)
            if warming_up
            else (trainer.env_steps, trainer.total_env_steps)
        )
        facts = f"{done:,}/{total:,} env steps  {self.rates}"
        if score is not None:
            facts += f"  last evaluation {score:,.1f}"
        title = f"{self.title} · warm-up" if warming_up else self.title
        self.drawn = now if self.live else self.drawn
        if self.live:
            self.progress.update(self.task, description=title, completed=done, total=total, facts=facts)
        elif now - self.drawn > PLAIN_LINE_SECONDS or trainer.finished:
            self.drawn = now
            self.console.print(f"{title}  {facts}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()
