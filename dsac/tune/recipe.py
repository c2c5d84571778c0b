"""The best settings of a study as a recipe, and the commands that repeat and confirm them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dsac.config import compose, to_tree
from dsac.evaluation.statistics import bootstrap_interval, interquartile_mean
from dsac.persistence import atomic
from dsac.schema import validate
from dsac.schema.importing import modules_named
from dsac.schema.plain_text import on_screen
from dsac.schema.run_config import NOT_OF_A_RUN, TrainConfig
from dsac.schema.validate import flat, lists, shown
from dsac.tune.study import Trial

OWN = "best.yaml"
NOT_OF_A_RECIPE = ("seed", *NOT_OF_A_RUN)  # of one run, of the machine, or of what is kept
FRESH_SEEDS = 5


def settings_tree(config: TrainConfig, tuned: Collection[str] = ()) -> dict[str, Any]:
    """What a recipe must say for `experiment=<recipe>` alone to give this config, but for seed and machine.

    That is its task and algorithm, the fields that were tuned, and every other that differs from its default.
    """
    ours = to_tree(config)
    named = modules_named(ours)
    choices = [f"env={ours['env']['name']}", f"algo={ours['algo']['name']}"]
    own = [f"{key}={value}" for key, value in named.items() if key != "algo"]
    defaults = flat(compose([*choices, "experiment=null", *own]))
    tree: dict[str, Any] = {"env": {"name": ours["env"]["name"]}, "algo": {"name": ours["algo"]["name"]}}
    for key, value in flat(ours).items():
        usual = key in defaults and lists(defaults[key]) == value
        if key in NOT_OF_A_RECIPE or key in ("env.name", "algo.name") or (usual and key not in tuned):
            continue
        *sections, name = key.split(".")
        section = tree
        for one in sections:
            section = section.setdefault(one, {})
        section[name] = value
    return {key: value for key, value in tree.items() if key not in NOT_OF_A_RECIPE}


def text_of(study: str, trial: Trial, config: TrainConfig, seeds: Sequence[int], command: str) -> str:
    """The recipe as yaml, with a head that says where it comes from."""
    seeds_used = ",".join(map(str, seeds))
    head = [
        f"Study {study}, trial {trial.number}: interquartile mean {value_of(trial)} over seeds {seeds_used}.",
        "The best of several trials on the same seeds looks better than it is: confirm it on others.",
        command,
    ]
    body = yaml.safe_dump(settings_tree(config, trial.settings), sort_keys=False)
    return "".join(f"# {on_screen(line)}\n" for line in head) + body


def value_of(trial: Trial) -> str:
    """The objective with its 95% interval where there are several seeds: 9,351.2 [9,102.0, 9,360.1]."""
    if trial.value is None:
        return "-"
    text = f"{trial.value:,.1f}"
    if len(trial.scores) < 2:
        return text
    interval = bootstrap_interval(interquartile_mean, [np.array(trial.scores)])
    return f"{text} [{float(interval.low):,.1f}, {float(interval.high):,.1f}]"


def write(folder: Path, text: str) -> Path:
    """Keep a recipe in its study's folder; the path that experiment= takes."""
    path = folder / OWN
    atomic.write_text(path, text)
    return path


def command(name: str, recipe: Path, config: TrainConfig, given: Mapping[str, str], **others: str) -> str:
    """A command line with the recipe, the choices and those of the overrides `given` that a recipe cannot hold."""
    own = to_tree(config)
    kept = {key: given[key] for key in ("device", "accelerate") if key in given}
    kept |= {"runs": given["runs"]} if given["runs"] != TrainConfig.runs else {}
    named = {"env": own["env"]["name"], "algo": own["algo"]["name"]} | modules_named(own)
    typed = {"experiment": str(recipe)} | named | others | {"threads": shown(config.threads)} | kept
    return validate.command(name, [f"{key}={value}" for key, value in typed.items()])


def fresh_seeds(seeds: Sequence[int], learners: int) -> str:
    """Seeds that no trial has seen, as seeds= takes them."""
    first = max(seeds) + learners
    return ",".join(str(first + index * learners) for index in range(FRESH_SEEDS))
