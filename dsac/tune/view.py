"""How far a tuning is, in a line above its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsac.cli.progress import clock
from dsac.sweep.runner import ELSEWHERE, TRAINING, Run
from dsac.tune.study import COMPLETE, OPEN, Study, best_of

BAR = 24


class Head:
    """The line above the runs of a study: trials by state, a bar, the rate, the time left at most, the best so far."""

    def __init__(self, study: Study, trials: int, seeds: int, total_env_steps: int) -> None:
        self.study, self.trials, self.seeds, self.total = study, trials, seeds, total_env_steps
        self.counts: dict[str, int] = {}
        self.best = ""
        self.refresh()

    def refresh(self) -> None:
        """Read the study anew, after a trial was closed."""
        trials = self.study.trials()
        self.counts = {}
        for trial in trials:
            self.counts[trial.state] = self.counts.get(trial.state, 0) + 1
        if (best := best_of(trials)) is not None:
            self.best = f"  best {best.value:,.1f} (trial {best.number})"

    def announced(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, with the line kept up to date."""

        def both(line: str) -> None:
            self.refresh()
            say(f"{line}{self.best}" if COMPLETE in self.counts else line)

        return both

    def __call__(self, runs: Sequence[Run], slots: int) -> str:
        closed = sum(count for state, count in self.counts.items() if state != OPEN)
        at_work = [run for run in runs if run.state in (TRAINING, ELSEWHERE)]
        whole = self.trials * self.seeds * self.total
        done = closed * self.seeds * self.total + sum(min(run.env_steps, self.total) for run in at_work)
        share = min(done / whole, 1.0)
        rate = sum(run.status.get("env_steps_per_second", 0.0) for run in at_work)
        left = f"  at most {clock((whole - done) / rate)} left" if rate else ""
        states = ", ".join(f"{count} {state}" for state, count in self.counts.items() if state != OPEN)
        bar = ("━" * round(share * BAR)).ljust(BAR, "╌")
        counted = f"{closed} of {self.trials} trials{f' ({states})' if states else ''}"
        return f"{bar} {counted}  {rate:,.0f} env steps/s{left}{self.best}"
