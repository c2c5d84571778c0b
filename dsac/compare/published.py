"""The returns that the DSAC-T paper reports, to stand beside ours."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

SOURCE = "arXiv 2310.05858, at second hand: the paper's own table was not at hand when it was copied"
STATISTIC = (
    "mean and standard deviation of 5 seeds of the best evaluation in the last 10% of 30 million env steps, as others "
    "describe it"
)
VERSIONS = (
    "The paper's tasks are Gym's v2 and v3: v5 restores the contact cost of Ant and Humanoid, pays the healthy reward "
    "only when healthy, and changes two observations"
)


@dataclass(frozen=True)
class Published:
    """A published score: `env` with its own version, undiscounted return in the task's units."""

    env: str
    algorithm: str
    mean: float
    deviation: float


def published(env: str) -> list[Published]:
    """The published scores of a task, whatever the version asked for: those of HalfCheetah-v3 for HalfCheetah-v5."""
    task = env.partition("-v")[0]
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["env"].partition("-v")[0] == task]
    return [Published(row["env"], row["algorithm"], float(row["mean"]), float(row["deviation"])) for row in rows]
