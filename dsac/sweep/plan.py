"""Which runs a sweep is made of: every combination of its lists, checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path

from dsac.config import compose, load
from dsac.errors import ConfigError
from dsac.runs.folder import env_name
from dsac.runs.saved_config import source_problems
from dsac.schema.run_config import TrainConfig
from dsac.sweep.find_runs import identity


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: its config, the overrides that start it anew, and the recipe where there are several."""

    config: TrainConfig
    overrides: tuple[str, ...]
    recipe: str = ""

    @property
    def title(self) -> str:
        names = f"{env_name(self.config.env)} {self.config.algo.name} seed {self.config.seed}"
        return f"{names} {self.recipe}".strip()

    @cached_property
    def folder(self) -> Path:
        """Where the sweep keeps the lock, the status and the log of this run."""
        env, algo = env_name(self.config.env), self.config.algo.name
        name = f"{env}-{algo}-seed{self.config.seed}-{identity(self.config)}"
        return Path(self.config.runs).expanduser() / ".sweep" / name


def plan(
    axes: dict[str, list[str]], seeds: Sequence[int], others: Sequence[str], known: Sequence[str] = ()
) -> list[Planned]:
    """Every combination once, the first seed of all before the second.

    Raises ConfigError with all problems of all combinations, after those already `known`.
    """
    problems: dict[str, list[dict[str, str]]] = {}
    found: list[tuple[TrainConfig, list[str], str]] = []
    combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    for combination in combinations:
        overrides = [*(f"{key}={value}" for key, value in combination.items()), *others]
        recipe = Path(combination["experiment"]).stem if len(axes.get("experiment", ())) > 1 else ""
        wrong: list[str] = []
        try:
            tree = compose(overrides, wrong)
            wrong += source_problems(tree)
            found.append((load(tree, wrong), overrides, recipe))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(combination)
    lines = [*known, *(where(problem, cases, axes) + problem for problem, cases in problems.items())]
    if shared := shared_seeds(seeds, max((config.learners for config, *_ in found), default=1)):
        lines.append(shared)
    if lines:
        raise ConfigError(*lines)
    planned = [
        Planned(dataclasses.replace(config, seed=seed), (*overrides, f"seed={seed}"), recipe)
        for seed in seeds
        for config, overrides, recipe in found
    ]
    return list({identity(run.config): run for run in planned}.values())


def where(problem: str, cases: Sequence[dict[str, str]], axes: dict[str, list[str]]) -> str:
    """The choices that a problem is tied to, as the start of its line; nothing where it concerns every run."""
    tied = [
        f"{key}={cases[0][key]}"
        for key, values in axes.items()
        if len(values) > 1 and len({case[key] for case in cases}) == 1
    ]
    named = [choice for choice in tied if not problem.startswith(choice)]
    return f"{' '.join(named)}: " if named else ""


def shared_seeds(seeds: Sequence[int], learners: int) -> str | None:
    """What is wrong with seeds of which learner k of one run is learner 0 of another, or None."""
    ordered = sorted(set(seeds))
    for low, high in pairwise(ordered):
        if high < low + learners:
            apart = ",".join(str(ordered[0] + learners * index) for index in range(len(ordered)))
            return f"seeds: learner {high - low} of seed {low} is seed {high} (learners={learners}): seeds={apart}"
    return None
