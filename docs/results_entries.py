"""What docs/results/ holds: the runs of each task as groups under the names of the page, and what repeats them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsac.compare import results
from dsac.compare.commands import words
from dsac.compare.groups import AS_FAR_AS_EACH, Group, grouped, labelling, shared
from dsac.compare.labels import LENGTHS, NAMES, rank, shown, told_apart
from dsac.compare.overrides import base_choice, experiment_matters, overrides

RATES = "rates.json"
# Experiments that have another name on the page.
SETTINGS = {"paper": "published", "null": "published", "first_recipe": "first recipe"}


@dataclass(frozen=True)
class Entry:
    """A group of runs and what it is called: "DSAC-T", "recipe", and the settings that override that."""

    group: Group
    algorithm: str
    settings: str
    overrides: str

    @property
    def method(self) -> str:
        return f"{self.algorithm} {self.settings}".strip()

    @property
    def label(self) -> str:
        return self.group.label

    @property
    def off_policy(self) -> bool:
        return "algo.updates_per_env_step" in self.group.settings


@dataclass(frozen=True)
class Rate:
    """How long a method took for so many env steps and updates, under which conditions, and where that is said."""

    env: str
    label: str
    env_steps: int
    updates: int
    seconds: float
    conditions: str
    source: str


@dataclass(frozen=True)
class Found:
    """All of it; `places` are the folders that have runs of a task."""

    tasks: Mapping[str, Sequence[Entry]]
    places: Mapping[str, Sequence[str]]
    remarks: Sequence[str]
    rates: Sequence[Rate]


def gathered(folder: Path) -> Found:
    """Read every committed folder below `folder`, and its rates, whose form dsac.compare.results decides.

    Runs are grouped by the rules of dsac.compare, finished or not. Raises ValueError for a rate without runs.
    """
    places: dict[str, list[str]] = {}
    for path in sorted(folder.rglob(results.RUNS)):
        for env in dict.fromkeys(run.env for run in results.read_committed(path.parent)):
            places.setdefault(env, []).append(str(path.parent.relative_to(folder)))
    runs, _ = results.read([folder])
    groups, remarks = grouped(runs, AS_FAR_AS_EACH)
    tasks = {env: named([group for group in groups if group.env == env]) for env in sorted(places)}
    path = folder / RATES
    rates = [Rate(**row) for row in json.loads(path.read_text())["rates"]] if path.is_file() else []
    known = {(env, entry.label) for env, entries in tasks.items() for entry in entries}
    if lost := [f"{rate.env} {rate.label}" for rate in rates if (rate.env, rate.label) not in known]:
        raise ValueError(f"{path}: there are no runs of {', '.join(lost)}")
    return Found(tasks, places, remarks, rates)


def named(groups: Sequence[Group]) -> list[Entry]:
    """The groups of a task under their names, DSAC-T with the recipe first.

    Groups that would share a name are told apart by all that differs between them.
    """
    entries = [entry_of(group) for group in groups]
    rows = [(one.group.env, one.label, labelling(one.group.runs, AS_FAR_AS_EACH), {}) for one in entries]
    labels = told_apart(rows, lambda values, _: values)
    found = [
        dataclasses.replace(entry, group=dataclasses.replace(entry.group, label=label))
        for entry, label in zip(entries, labels, strict=True)
    ]
    return sorted(
        found, key=lambda one: (rank(one.group.algorithm), one.overrides, one.settings != "recipe", one.label)
    )


def entry_of(group: Group) -> Entry:
    """A group under its name, which another group of the task may have, too."""
    counted, settings = shared(group.runs[0]), group.runs[0].settings
    departed = {key: value for key, value in overrides(settings).items() if key in counted or value is None}
    said = " ".join(shown(key, value) for key, value in departed.items() if key not in LENGTHS)
    entry = Entry(group, NAMES.get(group.algorithm, group.algorithm), settings_of(settings), said)
    label = f"{entry.method} {said}".strip()
    return dataclasses.replace(entry, group=dataclasses.replace(group, label=label))


def settings_of(settings: Mapping[str, Any]) -> str:
    """Which settings an algorithm has, "recipe" or "published"; nothing where the two are the same to it."""
    experiment = base_choice(settings)["experiment"]
    return SETTINGS.get(experiment, experiment) if experiment_matters(settings) else ""


def commands(entries: Sequence[Entry]) -> list[str]:
    """What makes the runs of a task again: a sweep for each set of overrides, algorithms with the same seeds in one."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for entry in entries:
        for run in entry.group.runs:
            counted = {*shared(run), "total_env_steps"}
            rest = {key: value for key, value in overrides(run.settings).items() if key in counted or value is None}
            names = base_choice(run.settings)
            head, tail = (
                shlex.join(words(some)) for some in ({"env": names["env"]}, {"experiment": names["experiment"], **rest})
            )
            seeds.setdefault((head, names["algo"], tail), []).append(run.seed)
    algorithms: dict[tuple[str, str, str], list[str]] = {}
    for (head, algorithm, tail), numbers in seeds.items():
        algorithms.setdefault((head, tail, ranged(numbers)), []).append(algorithm)
    return [
        f"python -m dsac.sweep {head} algo={','.join(names)} seeds={numbers} {tail}"
        for (head, tail, numbers), names in algorithms.items()
    ]


def ranged(seeds: Sequence[int]) -> str:
    """0..2 for 0, 1, 2; otherwise a list."""
    low, high = min(seeds), max(seeds)
    whole = len(seeds) > 1 and sorted(seeds) == list(range(low, high + 1))
    return f"{low}..{high}" if whole else ",".join(map(str, sorted(seeds)))
