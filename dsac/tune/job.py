"""What a tuning command asks for, checked: its space, its settings, the runs of each trial, and what it ends with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dsac.config import SHORTCUTS, choices, compose, to_tree
from dsac.errors import ConfigError
from dsac.runs.config_text import read_config
from dsac.runs.folder import env_name
from dsac.schema.importing import OF_ENV, refusals
from dsac.schema.overrides import by_key, key_values
from dsac.schema.run_config import ARGUMENTS, NOT_OF_A_RUN, TrainConfig
from dsac.schema.validate import command, flat, plain_value
from dsac.sweep.command import parse_overrides, seeds_of
from dsac.sweep.find_runs import find, on_any_machine
from dsac.sweep.plan import Planned, plan
from dsac.tune import recipe as tune_recipe
from dsac.tune.report import Findings
from dsac.tune.search_space import Choices, Range, Space, described, read_space, unsearchable
from dsac.tune.study import Study, best_of
from dsac.tune.study_record import recorded

Config = TypeVar("Config", bound=Any)


@dataclass(frozen=True)
class Job:
    """A study to be carried out or reported.

    base       the config of the command's own settings, with its first seed
    overrides  those that every run has, without seed and place
    command    the line that began it
    """

    folder: Path
    space: Space
    base: TrainConfig
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    sampler: str
    pruner: str
    command: str

    def base_settings(self) -> dict[str, Any]:
        """Each field's value in the command's own settings."""
        values = flat(to_tree(self.base))
        return {key: values[key] for key in self.space}

    def plan(self, number: int, settings: Mapping[str, str]) -> list[Planned]:
        """The runs of a trial. Raises ConfigError for settings that no run takes."""
        tuned = {*settings, *(key for key in SHORTCUTS if f"algo.{key}" in settings)}
        kept = {key: value for key, value in by_key(self.overrides).items() if key not in tuned}
        own = {**kept, **settings, "runs": str(self.folder / "runs")}
        runs = plan({}, self.seeds, [f"{key}={value}" for key, value in own.items()])
        return [dataclasses.replace(run, recipe=f"trial {number}") for run in runs]

    @property
    def record(self) -> dict[str, Any]:
        """What decides the search, and what a report needs, as plain data."""
        settings = flat(to_tree(on_any_machine(self.base)))
        decides = {
            "settings": {key: value for key, value in settings.items() if key not in NOT_OF_A_RUN},
            "space": described(self.space),
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "pruner": self.pruner,
        }
        return {"decides": decides, "words": list(self.overrides), "command": self.command}


def prepare(overrides: Sequence[str], schema: type[Config]) -> tuple[Config, Job]:
    """The settings of the command and its job. Raises ConfigError with all that is wrong."""
    problems: list[str] = []
    config, pairs = parse_overrides(overrides, schema, problems, "a study")
    if config.report:
        return config, restored(config.study, pairs, problems)
    seeds = seeds_of(config.seeds, problems)
    others = [f"{key}={value}" for key, value in ({"threads": str(config.threads)} | pairs).items() if key != "runs"]
    runs = [f"runs={pairs['runs']}"] if "runs" in pairs else []
    tree = compose([*others, *runs], [])  # what is wrong with them is said by plan
    if config.space is None:
        known = ", ".join(choices("search"))
        problems.append(f"space is missing: space=<{known}>, or the path of a yaml file")
        space: Space = {}
    else:
        space = read_space(config.space, tree, problems)
    if config.study is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", config.study):
        problems.append(f"study={config.study} must be a name of letters, digits, -, _ and .")
    base = plan({}, seeds, [*others, *runs], problems)[0].config
    name = config.study or f"{env_name(base.env)}-{base.algo.name}"
    folder = Path(base.runs).expanduser() / "tune" / name
    return config, Job(
        folder, space, base, tuple(others), tuple(seeds), config.sampler, config.pruner, command("tune", overrides)
    )


def restored(study: str | None, pairs: Mapping[str, str], problems: list[str]) -> Job:
    """The job of a study that was begun, from its record, which is data: a module that it names is named in `pairs`."""
    problems += [
        f"{key}={value}: report=true takes study= and runs= alone"
        for key, value in pairs.items()
        if key not in ("runs", "algo", "ray.address", *OF_ENV) and not key.startswith(ARGUMENTS)
    ]
    if study is None:
        problems.append("report=true needs the name of a study: study=<name>")
    if problems:
        raise ConfigError(*problems)
    runs = Path(pairs.get("runs", "runs")).expanduser()
    folder = runs / "tune" / str(study)
    record = recorded(folder)
    asked = record["decides"]
    if refused := refusals(choices_in(record["words"]), pairs, "this study"):
        raise ConfigError(*refused)
    tree = compose(record["words"])
    if refused := [line for key in asked["space"] if (line := unsearchable(key, tree)) is not None]:
        raise ConfigError(*(f"{folder}: {line}" for line in refused))
    parts = asked["space"].items()
    space: Space = {key: Choices(tuple(part["words"])) if "words" in part else Range(**part) for key, part in parts}
    seeds = tuple(asked["seeds"])
    base = plan({}, seeds, [*record["words"], f"runs={runs}"])[0].config
    return Job(folder, space, base, tuple(record["words"]), seeds, asked["sampler"], asked["pruner"], record["command"])


def choices_in(overrides: Sequence[str]) -> dict[str, Any]:
    """The choices among the overrides of a run, as a config has them."""
    given = {key: plain_value(value) for key, value in key_values(overrides, [])}
    kwargs = {key.removeprefix(ARGUMENTS): value for key, value in given.items() if key.startswith(ARGUMENTS)}
    wrappers = given.get("env.wrappers")
    named = {"name": given.get("env"), "id": given.get("env.id"), "task": given.get("env.task"), "kwargs": kwargs}
    named["wrappers"] = wrappers.split(",") if isinstance(wrappers, str) else wrappers
    ray = {"address": given["ray.address"]} if "ray.address" in given else {}
    return {"algo": {"name": given.get("algo")}, "env": named, "collect": given.get("collect"), "ray": ray}


def findings(job: Job, study: Study, outside: Sequence[str]) -> tuple[Findings, Path | None]:
    """What the study has found; the recipe of its best trial is written."""
    trials = study.trials()
    found = Findings(job.folder.name, job.space, trials, study.importance(), outside)
    best = best_of(trials)
    if best is None:
        return found, None
    planned = job.plan(best.number, best.settings)
    config = dataclasses.replace(planned[0].config, threads=threads_of(planned[0]))
    given = by_key(job.overrides) | {"runs": job.base.runs}
    own = tune_recipe.text_of(job.folder.name, best, config, job.seeds, job.command)
    recipe = tune_recipe.write(job.folder, own)
    fresh = tune_recipe.fresh_seeds(job.seeds, config.learners)
    lines = {
        "confirm": tune_recipe.command("sweep", recipe, config, given, seeds=fresh),
        "next": tune_recipe.command("train", recipe, config, given, seed=str(config.seed)),
    }
    return dataclasses.replace(found, commands=lines), recipe


def threads_of(planned: Planned) -> int | None:
    """The threads that a finished run had; a study that was continued may have been given others since."""
    run = find(planned.config).run
    return planned.config.threads if run is None else read_config(run / "config.yaml")["threads"]
