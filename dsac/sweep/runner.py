"""The loop of a sweep: start what is missing, watch what runs, pass a stop on, and let no failure reach the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dsac.cli.exit_codes import FINISHED, RESUMABLE
from dsac.cli.signals import handled
from dsac.persistence.lock import held_elsewhere
from dsac.schema import files
from dsac.sweep.find_runs import Found, find, find_all, read_status
from dsac.sweep.plan import Planned

POLL_SECONDS = 0.2
LOG = "log.txt"
LARGEST_LOG = 16 << 20  # bytes of a session's log that are looked through
FINISHED_RUN, TRAINING, ELSEWHERE, WAITING, STOPPED, FAILED = (
    "finished", "training", "training elsewhere", "waiting", "stopped", "failed",
)  # fmt: skip


class Handle(Protocol):
    """A started run: its exit code once it ended (negative: the signal that ended it), and a way to stop it."""

    def poll(self) -> int | None: ...
    def stop(self) -> None: ...


class Launcher(Protocol):
    """What starts runs, on this machine or on others."""

    def slots(self) -> int: ...
    def start(self, run: Planned) -> Handle: ...
    def close(self) -> None: ...


@dataclass
class Run:
    """A planned run and what has become of it.

    code, error    the exit code of a run that failed and the line that says why
    log_starts_at  where the log of the newest session begins, in bytes
    wanted         False once it was withdrawn
    """

    planned: Planned
    found: Found
    state: str = WAITING
    status: dict[str, Any] = field(default_factory=dict)
    code: int = FINISHED
    error: str = ""
    log_starts_at: int = 0
    handle: Handle | None = None
    wanted: bool = True

    @property
    def env_steps(self) -> int:
        return int(self.status.get("env_steps", self.found.env_steps))

    @property
    def score(self) -> float | None:
        """The latest evaluation, the mean over learners."""
        scores = self.status.get("scores") or self.found.scores
        return sum(scores) / len(scores) if scores else None

    @property
    def folder(self) -> str | None:
        """The run folder, once something was saved in it."""
        return None if self.found.run is None else str(self.found.run)


class Processes:
    """Runs as processes of this machine, each the leader of a group of its own: a Ctrl-C reaches only the sweep."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def slots(self) -> int:
        """Runs at a time."""
        return self.jobs

    def start(self, run: Planned) -> Handle:
        files.make_own_folder(run.folder)
        command = worker_command(run.folder, run.overrides)
        with files.append(run.folder / LOG) as log:
            return Child(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0))

    def close(self) -> None:
        """Nothing is left to close: every child was waited for."""


def worker_command(folder: Path, overrides: Sequence[str]) -> list[str]:
    """The command of a run, whose process ends with the one that calls this."""
    return [sys.executable, "-m", "dsac.sweep.worker", str(os.getpid()), str(folder), *overrides]


class Child:
    """A process, stopped by SIGTERM, which saves; a second one ends it at once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


class Sweep:
    """Carries out planned runs, as many at a time as the launcher has slots."""

    def __init__(self, planned: Sequence[Planned], launcher: Launcher) -> None:
        self.launcher, self.stops = launcher, 0
        self.runs: list[Run] = []
        self.add(planned)

    def add(self, planned: Sequence[Planned]) -> list[Run]:
        """Take on more runs; those that are finished already are not trained again."""
        found = find_all([run.config for run in planned])
        runs = [Run(run, one) for run, one in zip(planned, found, strict=True)]
        for run in runs:
            run.state = FINISHED_RUN if run.found.finished else WAITING
        self.runs += runs
        return runs

    def withdraw(self, run: Run) -> None:
        """Let a run go no further: one at work saves and stops, one that waits is not begun."""
        if run.wanted and run.state == TRAINING and run.handle is not None:
            run.handle.stop()
        elif run.state in (WAITING, ELSEWHERE):
            run.state = STOPPED
        run.wanted = False

    def stop_all(self) -> None:
        """Start nothing more and stop what runs; the second time at once."""
        self.stops += 1
        for run in self.runs:
            if run.state == TRAINING and run.handle is not None and (run.wanted or self.stops > 1):
                run.handle.stop()

    def carry_out(
        self, show: Callable[[Sequence[Run], int], None], feed: Callable[[int], None] = lambda _slots: None
    ) -> None:
        """Return when every run has finished, failed or was stopped.

        Several times a second `feed` is called with the number of slots, and may add and withdraw runs, then `show`
        with all runs and the slots.
        """
        with self.passing_signals_on():
            while True:
                slots = self.launcher.slots()
                for run in self.runs:
                    self.attend(run, slots)
                feed(slots)
                show(self.runs, slots)
                if not self.count(TRAINING) and (self.stops or not self.count(WAITING, ELSEWHERE)):
                    break
                time.sleep(POLL_SECONDS)
        self.launcher.close()

    def count(self, *states: str) -> int:
        """How many runs are in one of these states."""
        return sum(run.state in states for run in self.runs)

    def attend(self, run: Run, slots: int) -> None:
        """Move one run on, if there is cause to."""
        folder = run.planned.folder
        if run.state in (TRAINING, ELSEWHERE):
            run.status = read_status(folder)
        if run.state == TRAINING and run.handle is not None and (code := run.handle.poll()) is not None:
            self.record_end(run, code)
        elif run.state == ELSEWHERE and not held_elsewhere(folder):
            run.found = find(run.planned.config)
            run.state = FINISHED_RUN if run.found.finished else WAITING
        if run.state == WAITING and not self.stops:
            if held_elsewhere(folder):
                run.state = ELSEWHERE
            elif self.count(TRAINING, ELSEWHERE) < slots:
                self.launch(run)

    def launch(self, run: Run) -> None:
        """Start a run, and stop it again should a stop have come while it was being started."""
        stops = self.stops
        run.log_starts_at = files.size_of(run.planned.folder / LOG)
        run.handle, run.state = self.launcher.start(run.planned), TRAINING
        if self.stops > stops:
            run.handle.stop()

    def record_end(self, run: Run, code: int) -> None:
        """Note how a run ended."""
        run.found = find(run.planned.config)
        if code == FINISHED:
            run.state = FINISHED_RUN
        elif not run.wanted:
            run.state = STOPPED
        elif held_elsewhere(run.planned.folder):
            run.state = ELSEWHERE
        elif code == RESUMABLE or (self.stops and code < 0):
            run.state = STOPPED
        else:
            run.state, run.code = FAILED, code if code > 0 else 128 - code
            run.error = error_line(run.planned.folder / LOG, run.log_starts_at)
            if code < 0:
                run.error = f"ended by {signal.Signals(-code).name}"

    @contextlib.contextmanager
    def passing_signals_on(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and SIGHUP start nothing more and stop what runs; a second one ends that at once."""

        def handle(_number: int, _frame: Any) -> None:
            os.write(2, b"\nstopping: every run saves; once more to quit at once\n")
            self.stop_all()

        with handled(handle):
            yield


def error_line(log: Path, start: int) -> str:
    """The line of a log that says what went wrong: the first error line since `start`, otherwise the last line."""
    try:
        with files.plain_file(log) as file:
            file.seek(start)
            text = file.read(LARGEST_LOG).decode(errors="replace")
    except OSError:
        return "no log"
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "it said nothing")
