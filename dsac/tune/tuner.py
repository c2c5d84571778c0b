"""The loop of a tuning: trials become runs of a sweep, evaluations become reports, and runs that end close trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dsac.cli.exit_codes import STORAGE, USAGE
from dsac.errors import ConfigError, FileError
from dsac.evaluation.statistics import interquartile_mean
from dsac.runs.metrics import SCORE, picked
from dsac.sweep.find_runs import find
from dsac.sweep.plan import Planned
from dsac.sweep.runner import ELSEWHERE, FAILED, FINISHED_RUN, TRAINING, WAITING, Launcher, Run, Sweep
from dsac.tune.study import Study

ENDS_THE_STUDY = (USAGE, STORAGE)  # every other run would fail alike


@dataclass
class Attempt:
    """An open trial and its runs, one a seed. reported: the env steps of its latest report."""

    trial: Any
    runs: list[Run]
    reported: int = 0


@dataclass
class Tuner:
    """Carries out a study until `trials` were asked for and closed.

    plan    the runs of a trial's settings. Raises ConfigError for settings that no run takes
    say     told what becomes of each trial
    ended   the exit code and the lines of what ended the study early
    """

    study: Study
    plan: Callable[[int, Mapping[str, str]], list[Planned]]
    launcher: Launcher
    trials: int
    say: Callable[[str], None]
    ended: tuple[int, Sequence[str]] | None = None
    open: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sweep = Sweep([], self.launcher)

    def carry_out(self, show: Callable[[Sequence[Run], int], None]) -> None:
        """Return when all trials are closed, or a stop or an error has ended it; then some may be open."""
        for trial in self.study.reopened():
            self.take_on(trial)
        self.sweep.carry_out(show, self.feed)

    def feed(self, slots: int) -> None:
        """Close the trials that came to an end, and begin others while there is room."""
        while True:
            self.open = [attempt for attempt in self.open if not self.closed(attempt)]
            busy = self.sweep.count(TRAINING, ELSEWHERE, WAITING)
            if self.sweep.stops or self.study.asked >= self.trials or busy >= slots:
                return
            self.take_on(self.study.ask())

    def take_on(self, trial: Any) -> None:
        """Plan the runs of an open trial. Settings that no run takes end the study, and close the trial."""
        try:
            planned = self.plan(trial.number, self.study.settings(trial))
        except ConfigError as error:
            self.study.fail(trial, error.problems[0], USAGE)
            self.end(USAGE, [f"trial {trial.number}: {problem}" for problem in error.problems])
            return
        self.open.append(Attempt(trial, self.sweep.add(planned)))

    def end(self, code: int, lines: Sequence[str]) -> None:
        """Stop all that runs, for a reason that the next trial would meet as well."""
        self.ended = self.ended or (code, lines)
        self.sweep.stop_all()

    def closed(self, attempt: Attempt) -> bool:
        """Move a trial on by what its runs have done; whether it has come to its end."""
        trial, runs = attempt.trial, attempt.runs
        if failed := [run for run in runs if run.state == FAILED]:
            return self.failed(attempt, failed[0])
        give_up = self.report(attempt)
        if all(run.state == FINISHED_RUN for run in runs):
            value = objective([run.found.scores for run in runs])
            self.study.complete(trial, value, [score for run in runs for score in run.found.scores])
            self.say(f"trial {trial.number} complete: {value:,.1f}")
            return True
        if give_up and not self.sweep.stops:
            self.study.prune(trial)
            self.say(f"trial {trial.number} given up at {attempt.reported:,} env steps")
            self.withdraw(attempt)
            return True
        return False

    def failed(self, attempt: Attempt, run: Run) -> bool:
        """What a failed run means: the end of its trial, or of the study, whose open trials stay open."""
        if run.code in ENDS_THE_STUDY:
            if self.ended is None:
                self.end(run.code, [f"{run.planned.title}: {run.error.removeprefix('error: ')}"])
            return False
        self.study.fail(attempt.trial, f"seed {run.planned.config.seed}: {run.error}", run.code)
        self.say(f"trial {attempt.trial.number} failed: {run.planned.title} (exit {run.code}): {run.error}")
        self.withdraw(attempt)
        return True

    def withdraw(self, attempt: Attempt) -> None:
        """Stop the runs of a trial that is closed; they save, and stay where they are."""
        for run in attempt.runs:
            self.sweep.withdraw(run)

    def report(self, attempt: Attempt) -> bool:
        """Report what all seeds have been evaluated at since the last report; whether to give the trial up."""
        config = attempt.runs[0].planned.config
        every, total = config.eval_every_env_steps, config.total_env_steps
        if min(nominal(reached(run), every, total) for run in attempt.runs) <= attempt.reported:
            return False
        curves = [curve(path, every, total) for run in attempt.runs for path in curve_files(run)]
        common = set.intersection(*map(set, curves)) if curves else set()
        new = {at: objective([[one[at]] for one in curves]) for at in common if at > attempt.reported}
        if not new:
            return False
        attempt.reported = max(new)
        return self.study.report(attempt.trial, new)


def objective(scores: Sequence[Sequence[float]]) -> float:
    """The interquartile mean of the returns of all seeds, a sequence a run."""
    return float(interquartile_mean([np.concatenate([np.asarray(one, float) for one in scores])]))


def reached(run: Run) -> int:
    """How far a run is; what it last said of itself may be a second old when it ends."""
    return run.found.env_steps if run.state == FINISHED_RUN else run.env_steps


def nominal(env_steps: int, every: int, total: int) -> int:
    """The multiple of the cadence that an evaluation was made for; blocks of steps may end beyond it."""
    return total if env_steps >= total else env_steps // every * every


def curve_files(run: Run) -> list[Path]:
    """The metrics.csv of each learner of a run; a missing file stands for a run that has not saved yet."""
    if run.found.run is None:
        run.found = find(run.planned.config)
    folder = run.found.run or run.planned.folder
    return [folder / f"learner-{learner}" / "metrics.csv" for learner in range(run.planned.config.learners)]


def curve(path: Path, every: int, total: int) -> dict[int, float]:
    """The evaluations of a metrics.csv, return by nominal env steps. A line that is not whole yet does not count."""
    try:
        rows = picked(path, [SCORE])[SCORE]
    except FileError:  # a run that has not saved yet has none
        return {}
    return {nominal(int(row[0]), every, total): float(row[3]) for row in rows}
