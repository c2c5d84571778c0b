"""What a run records: TensorBoard curves and a table of numbers for each learner, and its progress on the screen.

metrics.csv is in long form, one number a row: env_steps, updates, wall_time, tag, value. Nothing is rewritten, a new
tag needs no new column, and a resumed run cuts the file where its checkpoint stood.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from dsac.progress import ProgressBar
from dsac.trainer import Trainer

HEADER = "env_steps,updates,wall_time,tag,value\n"


class EventFile:
    """A TensorBoard event file of scalars, a new one each sitting, numbered and without the host's name.

    from_step: what earlier sittings wrote from this step on is void.
    """

    def __init__(self, folder: Path, from_step: int | None = None) -> None:
        number = len(list(folder.glob("events.out.tfevents.*")))
        self.file = (folder / f"events.out.tfevents.{number:06d}").open("xb")
        self.records = RecordWriter(self.file)
        self.add(file_version="brain.Event:2")
        if from_step is not None:
            self.add(session_log=SessionLog(status=SessionLog.START), step=from_step)

    def add(self, **content: Any) -> None:
        self.records.write(Event(wall_time=time.time(), **content).SerializeToString())

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.add(summary=Summary(value=scalars), step=step)


class Curves:
    """The numbers of one learner, to TensorBoard and to metrics.csv, on env steps."""

    def __init__(self, folder: Path, saved: Mapping[str, int] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.csv = (folder / "metrics.csv").open("a+")
        length = self.csv.seek(0, io.SEEK_END)
        if saved is not None:
            self.csv.truncate(min(length, saved["csv_bytes"]))
        if length == 0:
            self.csv.write(HEADER)
        self.events = EventFile(folder, None if saved is None else saved["env_steps"] + 1)
        self.flush()

    def write(self, values: Mapping[str, float], trainer: Trainer) -> None:
        """Append values by tag at the trainer's present step."""
        self.events.add_scalars(values, trainer.env_steps)
        table = csv.writer(self.csv, lineterminator="\n")
        for tag, value in values.items():
            table.writerow([trainer.env_steps, trainer.updates, f"{trainer.wall_time:.2f}", tag, repr(float(value))])

    def write_film(self, gif: bytes, size: tuple[int, int], trainer: Trainer) -> None:
        """Append an animated GIF of (width, height) at the trainer's present step; TensorBoard plays it as an image."""
        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=gif)
        self.events.add(summary=Summary(value=[Summary.Value(tag="eval/film", image=image)]), step=trainer.env_steps)

    def flush(self) -> int:
        """Write out what is buffered; the length of metrics.csv in bytes."""
        self.events.file.flush()
        self.csv.flush()
        return self.csv.seek(0, io.SEEK_END)

    def close(self) -> None:
        self.events.file.close()
        self.csv.close()


class Logger:
    """Writes every learner's curves and draws the progress of the run. Rates are those of one learner."""

    def __init__(self, run: Path, learners: int, bar: ProgressBar, saved: dict[str, Any] | None = None) -> None:
        offsets = saved["curves"] if saved else [None] * learners
        self.curves = [Curves(run / f"learner-{index}", offset) for index, offset in enumerate(offsets)]
        self.bar = bar
        self.mark: tuple[float, int, int] | None = None

    def __call__(self, trainer: Trainer) -> None:
        """The logging task: recent episodes, the latest update's metrics, rates. Only here is the device waited for."""
        now = (time.monotonic(), trainer.env_steps, trainer.updates)
        rates = {}
        if self.mark is not None and now[0] > self.mark[0]:
            seconds = now[0] - self.mark[0]
            rates = {
                "rate/env_steps_per_second": (now[1] - self.mark[1]) / seconds,
                "rate/updates_per_second": (now[2] - self.mark[2]) / seconds,
            }
        self.mark = now
        facts = trainer.collector.take_facts()
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
                values | facts | rates | {"progress/updates": trainer.updates, "progress/wall_time": trainer.wall_time},
                trainer,
            )

    def show(self, trainer: Trainer) -> None:
        """The drawing task: cheap, after every block."""
        self.bar.show(trainer, trainer.scores[0] if trainer.scores else None)

    def record_score(self, learner: int, values: Mapping[str, float], trainer: Trainer) -> None:
        """Append an evaluation of one learner and flush, so that TensorBoard shows it at once."""
        self.curves[learner].write(values, trainer)
        self.curves[learner].flush()

    def state_dict(self, trainer: Trainer) -> dict[str, Any]:
        """Where the curves end, for a resume that continues them."""
        curves = [{"csv_bytes": curves.flush(), "env_steps": trainer.env_steps} for curves in self.curves]
        return {"curves": curves}

    def close(self) -> None:
        """Close the files; the bar belongs to the caller."""
        for curves in self.curves:
            curves.close()
