"""What a failed run counts as: to leave it out would make its method look better than it is.

From where it failed on it has the lowest return that is known of its task, so it lies below all others in every mean,
rate and probability, and it never reaches a threshold. Where such a return lies is a convention and depends on the
runs beside it; how many runs failed does not, and stands beside every mean. (A worst-rank score, Lachin 1999.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsac.compare.results import Run

Array = NDArray[np.float64]


def lowest_returns(runs: Iterable[Run]) -> dict[str, float]:
    """The lowest return of each task that any run had in any evaluation."""
    found: dict[str, float] = {}
    for run in runs:
        if len(run.returns):
            found[run.env] = min(float(run.returns.min()), found.get(run.env, np.inf))
    return found


def counted(runs: Sequence[Run], lowest: float, until: float | None) -> list[Run]:
    """The runs of a group, those that failed continued with the lowest return to their budget, or to `until`.

    Updates and seconds go on as they did before, or as in the other runs where there was no evaluation.
    """
    paces = [pace_of(run) for run in runs if len(run.returns)]
    usual = np.median(paces, 0) if paces else np.ones(2)
    return [continued(run, lowest, until, usual) if run.failure else run for run in runs]


def pace_of(run: Run) -> Array:
    """Updates and seconds of an env step (2,), at the last evaluation."""
    return np.array([run.updates[-1] / run.env_steps[-1], run.wall_time[-1] / run.env_steps[-1]])


def continued(run: Run, lowest: float, until: float | None, usual: Array) -> Run:
    """A run with the lowest return from where it failed, after its last evaluation, to its end."""
    budget = float(run.settings["total_env_steps"])
    end = budget if until is None else min(budget, until)
    known = float(run.env_steps[-1]) if len(run.returns) else 0.0
    end, failed_at = max(end, known), max(run.ended_at, known)
    pace = pace_of(run) if len(run.returns) else usual
    env_steps = np.unique([min(max(failed_at, 1.0), end), end])
    tail = {
        "env_steps": env_steps,
        "updates": env_steps * pace[0],
        "wall_time": env_steps * pace[1],
        "returns": np.full(len(env_steps), lowest),
    }
    longer: dict[str, Any] = {name: np.append(getattr(run, name), values) for name, values in tail.items()}
    return dataclasses.replace(run, ended_at=failed_at, **longer)


def frozen(runs: Iterable[Run]) -> list[str]:
    """What is to be said of runs that stopped learning, while others beside them went on."""
    return [
        f"seed {run.seed} stopped learning at {run.frozen_at:,.0f} env steps, where its numbers "
        "were no longer finite; it counts with what it then scored"
        for run in runs
        if run.frozen_at is not None and run.failure is None
    ]


def failed(runs: Iterable[Run]) -> list[str]:
    """What is to be said of runs that failed, continued as they are counted."""
    return [
        f"seed {run.seed} failed at {run.ended_at:,.0f} env steps, {run.failure}; from there on "
        f"it counts with the lowest return known of the task, {run.returns[-1]:,.1f}"
        for run in runs
        if run.failure is not None
    ]
