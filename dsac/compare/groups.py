"""Which runs may be averaged and which compared: runs that differ in anything but the seed are never averaged."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsac.compare.failures import counted, failed, frozen, lowest_returns
from dsac.compare.labels import Distinctions, departing, distinctions, label_of, rank
from dsac.compare.results import NO_MATTER, Run
from dsac.errors import ConfigError
from dsac.runs.run_files import CURVES
from dsac.schema.ranges import TASK
from dsac.schema.run_config import ARGUMENTS, RayConfig, TrainConfig, of_kind

SAID_ELSEWHERE = ("env.name", "env.backend")  # in the task's name and the simulator's
REACHED = 0.95
AS_FAR_AS_EACH = math.inf  # an `until` that cuts nothing: every run with all that it has, finished or not
# What a setting was before it came into being: what it is by default.
DEFAULTS = {
    prefix + field.name: field.default
    for prefix, section in (("", TrainConfig), ("ray.", RayConfig))
    for field in dataclasses.fields(section)
    if field.default is not dataclasses.MISSING
}


@dataclass(frozen=True)
class Group:
    """Runs of one task and algorithm that differ in nothing but the seed, by seed.

    label           the algorithm, with what sets it apart from its other groups as one types it
    distinctions    that as dotted keys and values, in the order of the label
    settings        the config that they share, dotted keys
    budget          env steps up to which it is compared
    comparability   what another group must share to be compared with: task, simulator, evaluation, budget
    repeated        a remark for each run that was left out because its seed is there already
    """

    env: str
    algorithm: str
    label: str
    distinctions: Distinctions
    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    budget: float
    comparability: Mapping[str, str]
    repeated: tuple[str, ...] = ()

    @property
    def updates_per_env_step(self) -> float:
        """Gradient steps per env step, as measured; not a number where all runs failed."""
        measured = [run.updates[-1] / run.env_steps[-1] for run in self.runs if run.failure is None]
        return float(np.mean(measured)) if measured else math.nan

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(run.failure is not None for run in self.runs)

    def different(self, other: Group) -> list[str]:
        """What keeps this group from being compared with another: "budget: 1,000,000 and 300,000 env steps"."""
        return [
            f"{key}: {value} and {other.comparability[key]}"
            for key, value in self.comparability.items()
            if value != other.comparability[key]
        ]


def grouped(runs: Iterable[Run], until: float | None = None) -> tuple[list[Group], list[str]]:
    """Group runs by task, algorithm and settings; `until` cuts all at so many env steps,
    and AS_FAR_AS_EACH takes each as far as it has come.

    Returns the groups, tasks in order and DSAC-T first, and a remark for each run that failed, which counts, or was
    left out: unfinished, or the same seed of the same settings once more, which is no independent run. Raises
    ConfigError where none is left.
    """
    remarks: list[str] = []
    runs = list(runs)
    lowest = lowest_returns(runs)
    whole = [cut for run in runs if (cut := trimmed(run, until, lowest, remarks)) is not None]
    if not whole:
        raise ConfigError(*remarks, "no run to compare; until=<env steps> compares what there is up to there")
    members: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in whole:
        members[run.env, run.algorithm, identity(run, until)].append(run)
    groups = [
        group_of(key, found, said, lowest, until)
        for (key, found), said in zip(members.items(), name_groups(members, until), strict=True)
    ]
    remarks += remarks_on(groups)
    return sorted(groups, key=lambda group: (group.env, rank(group.algorithm), group.label)), remarks


def group_of(
    key: tuple[str, str, str],
    found: Sequence[Run],
    said: Distinctions,
    lowest: Mapping[str, float],
    until: float | None,
) -> Group:
    """The group of runs of one (env, algorithm, identity), its failed runs continued with the lowest return."""
    env, algorithm, _ = key
    runs, repeated = unique_seeds(counted(found, lowest[env], until))
    budget = until or found[0].settings["total_env_steps"]
    return Group(
        env,
        algorithm,
        label_of(algorithm, said),
        said,
        tuple(runs),
        shared(found[0]),
        budget,
        comparability(found[0], until),
        tuple(repeated),
    )


def remarks_on(groups: Sequence[Group]) -> list[str]:
    """A line for each run of the groups that was repeated, then for each that stopped learning, then that failed."""
    kinds: list[Callable[[Group], Iterable[str]]] = [
        lambda group: group.repeated,
        lambda group: frozen(group.runs),
        lambda group: failed(group.runs),
    ]
    return [f"{one.env} {one.label}: {remark}" for kind in kinds for one in groups for remark in kind(one)]


def trimmed(run: Run, until: float | None, lowest: Mapping[str, float], remarks: list[str]) -> Run | None:
    """A finished or failed run, or a run up to `until` env steps; None, with a remark, where it does not reach as far.

    A run that lacks less than 5% of the way reaches it: its last evaluation is then that of another cadence. One that
    failed later than that had not failed there.
    """
    which, budget = f"{run.env} {run.algorithm} {run.name}", run.settings["total_env_steps"]
    last, goal = run.env_steps[-1] if len(run.env_steps) else 0, until or budget
    if until == AS_FAR_AS_EACH or (until is None and run.finished and run.failure is None):
        there = run
    elif until is not None and last >= REACHED * goal and (kept := run.env_steps <= goal).any():
        there = dataclasses.replace(run, failure=None, **{name: getattr(run, name)[kept] for name in CURVES})
    elif run.failure is not None and budget >= REACHED * goal:
        there = run
    else:
        remarks.append(f"{which}: left out at {last:,.0f} of {goal:,} env steps{run.ending}")
        return None
    if there.failure is None or run.env in lowest:
        return there
    remarks.append(f"{which}: failed, {run.failure}; left out, since no return of the task is known")
    return None


def identity(run: Run, until: float | None) -> str:
    """What runs must share to be averaged: all settings that can move returns, and the simulator."""
    budget = run.settings["total_env_steps"] if budgeted(run, until) else None
    return json.dumps([shared(run), simulator(run), budget])


def budgeted(run: Run, until: float | None) -> bool:
    """Whether a run's budget matters: not where all are cut before it, unless its learning rate follows it."""
    return until is None or run.settings.get("algo.learning_rate_schedule", "constant") != "constant"


def shared(run: Run) -> dict[str, Any]:
    """The settings that can move returns, without the budget; what is null is as if it were not there.

    An experiment is a name for settings, which are all here. A run from before a setting had what is now its default.
    """
    settings = {**DEFAULTS, **run.settings}
    idle = [key for key in settings if key.startswith("ray.")] if settings["collect"] == "local" else []
    left_out = (*NO_MATTER, *idle, "total_env_steps")
    return {key: value for key, value in sorted(settings.items()) if key not in left_out and value is not None}


def simulator(run: Run) -> str:
    """What stepped the worlds, with its version."""
    versions = run.facts["versions"]
    own = f"Gymnasium {versions['gymnasium']}, " if run.settings["env.backend"] == "gymnasium" else ""
    return f"{own}MuJoCo {versions['mujoco']}"


def comparability(run: Run, until: float | None) -> dict[str, str]:
    """What another group must share to be compared with."""
    told = [key for key in of_kind(TASK) if key not in SAID_ELSEWHERE and run.settings.get(key)]
    told += sorted(key for key in run.settings if key.startswith(ARGUMENTS))
    task = {key: run.settings[key] for key in told}
    budget = until or run.settings["total_env_steps"]
    return {
        "task": " ".join([run.env, *(f"{key}={value}" for key, value in task.items())]),
        "simulator": simulator(run),
        "evaluation": f"{run.settings['eval.episodes']} episodes",
        "budget": "as far as each has come" if until == AS_FAR_AS_EACH else f"{budget:,} env steps",
    }


def unique_seeds(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """One run a seed, the longest and then the newest, and a remark for each of the others."""
    by_seed: dict[int, Run] = {}
    remarks = []
    for run in sorted(runs, key=lambda run: (run.env_steps[-1], run.name)):
        if (former := by_seed.get(run.seed)) is not None:
            again = (
                "with the same" if np.array_equal(former.returns, run.returns[: len(former.returns)]) else "with other"
            )
            remarks.append(f"seed {run.seed} was run twice, {again} returns; {former.name} left out")
        by_seed[run.seed] = run
    return [by_seed[seed] for seed in sorted(by_seed)], remarks


def name_groups(groups: Mapping[tuple[str, str, str], Sequence[Run]], until: float | None) -> list[Distinctions]:
    """The distinctions of each group (env, algorithm, ...): its experiment and the settings besides.

    Said is what differs among the groups of an algorithm within one task, and that only of the groups that depart in
    it from their task, algorithm and experiment. Groups that would share a label, as those of an experiment that is a
    file, whose settings nobody knows here, say all that differs between them.
    """
    rows = [
        (env, label_of(algorithm, ()), labelling(runs, until), runs[0].settings)
        for (env, algorithm, _), runs in groups.items()
    ]
    first = distinctions(rows, departing)
    rows = [
        (env, label_of(algorithm, said), values, settings)
        for (env, algorithm, values, settings), said in zip(rows, first, strict=True)
    ]
    further = distinctions(rows, lambda values, _: set(values) - {"experiment"})
    return [one + other for one, other in zip(first, further, strict=True)]


def labelling(runs: Sequence[Run], until: float | None) -> dict[str, Any]:
    """All that may set one group of an algorithm apart from another; the experiment if all its runs name the same."""
    names = {str(run.settings.get("experiment") or "") for run in runs}
    budget = {"total_env_steps": runs[0].settings["total_env_steps"]} if budgeted(runs[0], until) else {}
    experiment = Path(names.pop()).stem if len(names) == 1 else ""
    return {**shared(runs[0]), **budget, "simulator": simulator(runs[0]), "experiment": experiment}
