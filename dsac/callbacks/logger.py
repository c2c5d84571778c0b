"""What a run records: TensorBoard curves and a table of numbers for each learner, and its progress on the screen.

metrics.csv is in long form, one number a row: env_steps, updates, wall_time, tag, value. Nothing is rewritten, a new
tag needs no new column, and a resumed run cuts the file where its checkpoint stood.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from dsac.cli.progress import ProgressBar
from dsac.config import to_tree
from dsac.schema import files
from dsac.schema.plain_text import warn
from dsac.schema.ranges import RECORD
from dsac.schema.run_config import TrainConfig, of_kind
from dsac.schema.validate import flat, shown
from dsac.trainer import Trainer

BOOKKEEPING = {"learners", *of_kind(RECORD)} - {"experiment"}  # no column of the table of hyperparameters
EVENTS = "events.out.tfevents."
HEADER = "env_steps,updates,wall_time,tag,value\n"


class Appender:
    """A file that takes a record whole or not at all; `dropped` counts those that the disk refused, for good."""

    def __init__(self, path: Path) -> None:
        self.path, self.file, self.dropped = path, files.append(path), 0

    def append(self, record: bytes) -> None:
        """Write a record. A full disk costs the record, not the run; the first one is told of."""
        before = self.length()
        try:
            if self.file.write(record) == len(record):
                return
            reason = "no space left"
        except OSError as error:
            reason = str(error)
        with contextlib.suppress(OSError):  # half a record would hide all that follow it
            self.file.truncate(before)
            self.file.seek(before)
        self.dropped += 1
        if self.dropped == 1:
            warn(f"{self.path} loses records: {reason}")

    def length(self) -> int:
        """Bytes so far."""
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close, and say what was lost."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self.dropped:
            warn(f"{self.path} lost {self.dropped:,} records")


class EventFile:
    """A TensorBoard event file of summaries, a new one each session, numbered.

    from_step: what earlier sessions wrote from this step on is void.

    torch's SummaryWriter would put the host's name into the file name, and write in a thread where a full disk leaves
    half a record and ends the run.
    """

    def __init__(self, folder: Path, from_step: int | None = None) -> None:
        numbers = [path.name.removeprefix(EVENTS) for path in folder.glob(f"{EVENTS}*")]
        number = 1 + max(
            (int(text) for text in numbers if text.isdecimal() and len(text) < 13), default=-1
        )  # some may be gone
        self.file = Appender(folder / f"{EVENTS}{number:06d}")
        self.add(file_version="brain.Event:2")
        if from_step is not None:
            self.add(session_log=SessionLog(status=SessionLog.START), step=from_step)

    def add(self, **content: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        self.file.append(record.getvalue())

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.add(summary=Summary(value=scalars), step=step)


class Curves:
    """The numbers of one learner, to TensorBoard and to metrics.csv, on env steps."""

    def __init__(self, folder: Path, saved: Mapping[str, int] | None = None) -> None:
        files.make_folder(folder)
        self.csv = Appender(folder / "metrics.csv")
        length = self.csv.length()
        if saved is not None:
            self.csv.file.truncate(min(length, saved["csv_bytes"]))
        if length == 0:
            self.csv.append(HEADER.encode())
        self.events = EventFile(folder, None if saved is None else saved["env_steps"] + 1)

    def write(self, values: Mapping[str, float], trainer: Trainer) -> None:
        """Append values by tag at the trainer's present step."""
        self.events.add_scalars(values, trainer.env_steps)
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        for tag, value in values.items():
            table.writerow([trainer.env_steps, trainer.updates, f"{trainer.wall_time:.2f}", tag, repr(float(value))])
        self.csv.append(rows.getvalue().encode())

    def write_film(self, gif: bytes, size: tuple[int, int], trainer: Trainer) -> None:
        """Append an animated GIF of (width, height) at the trainer's present step; TensorBoard plays it as an image."""
        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=gif)
        self.events.add(summary=Summary(value=[Summary.Value(tag="eval/film", image=image)]), step=trainer.env_steps)

    def write_histograms(self, values: Mapping[str, np.ndarray], trainer: Trainer) -> None:
        """Append distributions by tag, any shape, at the trainer's present step; what is not finite is left out."""
        for tag, value in values.items():
            finite = value[np.isfinite(value)]
            self.events.add(summary=histogram_pb(tag, finite), step=trainer.env_steps)

    def describe(self, settings: Mapping[str, Any], texts: Mapping[str, str], env_steps: int) -> None:
        """Write what the run is: settings for TensorBoard's table of hyperparameters, texts in Markdown."""
        plain = {
            key: value if isinstance(value, bool | int | float) else shown(value) for key, value in settings.items()
        }
        self.events.add(summary=hparams_pb(plain), step=env_steps)
        for tag, text in texts.items():
            self.events.add(summary=text_pb(tag, text), step=env_steps)

    def close(self) -> None:
        self.events.file.close()
        self.csv.close()


class Logger:
    """Writes every learner's curves and draws the progress of the run. Rates are those of one learner."""

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        facts: Mapping[str, Any],
        bar: ProgressBar,
        saved: dict[str, Any] | None = None,
    ) -> None:
        offsets = saved["curves"] if saved else [None] * config.learners
        self.curves = [Curves(run / f"learner-{index}", offset) for index, offset in enumerate(offsets)]
        self.bar = bar
        self.mark: tuple[float, int, int] | None = None
        tree = to_tree(config)
        settings = {key: value for key, value in flat(tree).items() if key not in BOOKKEEPING}
        texts = {"config": as_code(tree), "made with": as_code(dict(facts))}
        for seed, curves in zip(config.seeds, self.curves, strict=True):
            curves.describe({**settings, "seed": seed}, texts, facts["at_env_steps"])

    def __call__(self, trainer: Trainer) -> None:
        """Write a row of curves: episodes, the latest update's metrics, rates. Only here is the device waited for."""
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
        if (size := trainer.algorithm.reward_size()) is not None:
            metrics["reward_size"] = size.tolist()
        for learner, curves in enumerate(self.curves):
            values = {f"train/{name}": value[learner] for name, value in metrics.items()}
            values["collect/invalid_steps"] = float(trainer.collector.invalid_steps[learner])
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
        """Draw the progress: cheap, after every block."""
        self.bar.show(trainer, trainer.scores[0] if trainer.scores else None)

    def show_evaluation(self, played: int, episodes: int, step: int) -> None:
        """Draw the progress while policies are scored: cheap, after every step."""
        self.bar.show_evaluation(played, episodes, step)

    def state_dict(self, trainer: Trainer) -> dict[str, Any]:
        """Where the curves end, for a resume that continues them."""
        curves = [{"csv_bytes": curves.csv.length(), "env_steps": trainer.env_steps} for curves in self.curves]
        return {"curves": curves}

    def close(self) -> None:
        """Close the files; the bar belongs to the caller."""
        for curves in self.curves:
            curves.close()


def as_code(tree: Mapping[str, Any]) -> str:
    """A tree as a block of code in Markdown."""
    return "\n".join(f"    {line}" for line in yaml.safe_dump(tree, sort_keys=False).splitlines())
