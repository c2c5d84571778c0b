"""How true the critics of finished runs are: what they predict against the returns that follow, over seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac.compare.groups import Group
from dsac.compare.results import CALIBRATION, Run
from dsac.compare.scores import Estimate, estimate
from dsac.config import load
from dsac.errors import ConfigError
from dsac.evaluation import statistics
from dsac.evaluation.calibration import Figures, figures
from dsac.persistence import atomic
from dsac.runs.saved_config import saved
from dsac.schema import files
from dsac.seeding import derived_seed

STATES, SAMPLES = 32, 64


@dataclass(frozen=True)
class Calibration:
    """A group's critics on the task's scale: the figures of dsac.evaluation.calibration, each the mean over seeds.

    samples  returns of each state, of the seed with the fewest
    """

    env: str
    label: str
    seeds: int
    samples: int
    bias: Estimate
    size: float
    sigma: float | None
    spread: float
    ratio: Estimate | None
    rank: float | None
    coverage: float | None


def summarise(group: Group) -> Calibration | None:
    """The calibration of a group, of the seeds that were measured; None where none was."""
    measured_runs = [run.calibration for run in group.runs if run.calibration]
    if not measured_runs:
        return None
    found = [figures(one) for one in measured_runs]
    ratios = [one.ratio for one in found if one.ratio is not None]
    return Calibration(
        env=group.env,
        label=group.label,
        seeds=len(found),
        samples=min(one["samples"] for one in measured_runs),
        bias=estimate(statistics.mean, [np.array([one.bias for one in found])]),
        size=float(np.mean([one.size for one in found])),
        sigma=average(found, "sigma"),
        spread=float(np.mean([one.spread for one in found])),
        ratio=estimate(statistics.mean, [np.array(ratios)]) if ratios else None,
        rank=average(found, "rank"),
        coverage=average(found, "coverage"),
    )


def average(found: Sequence[Figures], name: str) -> float | None:
    """The mean of a figure over the seeds that have it; None where none has."""
    values = [getattr(one, name) for one in found if getattr(one, name) is not None]
    return float(np.mean(values)) if values else None


def measured(runs: Sequence[Run], named: Mapping[str, str], remarks: list[str]) -> Iterator[Run]:
    """The runs with their calibration, each when it is done; what was measured before is read back.

    It is kept beside the learner's policies. A run that cannot be measured is named in the remarks.
    """
    for run in runs:
        if run.folder is None:
            if run.calibration is None:
                remarks.append(f"{run.name}: committed without a calibration")
            yield run
            continue
        try:
            found = calibrate(run.folder, run.learner, named, run.calibration)
        except ConfigError as error:
            remarks.append(f"{run.name}: no calibration: {'; '.join(error.problems)}")
            yield run
            continue
        files.refuse_linked_folders(run.folder)
        path = run.folder / f"learner-{run.learner}" / CALIBRATION
        atomic.write_text(path, json.dumps(found) + "\n")
        yield dataclasses.replace(run, calibration=found)


def calibrate(
    folder: Path, learner: int, named: Mapping[str, str], known: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Measure the critics in the newest checkpoint of a run, or return `known` where that is of this very checkpoint.

    At STATES states, with SAMPLES returns of each, see dsac.evaluation.monte_carlo.measure.
    Raises ConfigError where the run cannot be measured, CheckpointError where its checkpoint is damaged.
    """
    from dsac.persistence import checkpoint

    tree = saved(folder, named)
    newest = checkpoint.committed(folder / "checkpoints")
    step = atomic.read_manifest(newest[-1]).get("env_steps") if newest else None
    complete = known is not None and ("sigma" in known) == ("covered" in known)
    if known and complete and (known["env_steps"], known["states"], known["samples"]) == (step, STATES, SAMPLES):
        return known
    from dsac.collection.worlds import settable_worlds
    from dsac.evaluation.monte_carlo import horizon_of, measure
    from dsac.runs.saved_critics import newest_learner

    config = load(tree)
    horizon, make = horizon_of(config.algo.gamma), settable_worlds(config.env)
    algorithm, n_step, manifest = newest_learner(folder, config, learner)
    seed = derived_seed(config.seeds[learner], "evaluation", 1)
    rows = measure(algorithm, n_step, make, STATES, SAMPLES, horizon, seed)
    return {"env_steps": manifest["env_steps"], "states": STATES, "samples": SAMPLES, "horizon": horizon, **rows}
