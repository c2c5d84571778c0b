"""The best settings of a study as a recipe, and the commands that repeat and confirm them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dsac.compare.statistics import bootstrap_interval, interquartile_mean
from dsac.config import compose, conf_folder, to_tree
from dsac.persistence import atomic
from dsac.schema import validate
from dsac.schema.importing import modules_named
from dsac.schema.plain_text import on_screen
from dsac.schema.ranges import MACHINE, RECORD
from dsac.schema.run_config import TrainConfig, of_kind
from dsac.schema.validate import flat, lists, shown
from dsac.tune.study import Trial

OWN = "best.yaml"
NOT_OF_A_RECIPE = ("seed", *of_kind(MACHINE, RECORD))  # of one run, of the machine, or of what is kept
FRESH_SEEDS = 5


@dataclass(frozen=True)
class Recipe:
    """A recipe on the disk. name: what experiment= takes; kept: the file that was left as it was, if any."""

    path: Path
    name: str
    kept: Path | None


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
        section, _, name = key.rpartition(".")
        usual = key in defaults and lists(defaults[key]) == value
        if key in NOT_OF_A_RECIPE or name == "name" or (usual and key not in tuned):
            continue
        (tree.setdefault(section, {}) if section else tree)[name] = value
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


def write(folder: Path, text: str) -> Recipe:
    """Keep a recipe in its study's folder and, where this is the source's own folder, in conf/experiment.

    There, a file is replaced only if it is as it was written from this study.
    """
    own = folder / OWN
    before = own.read_text() if own.exists() else None
    kept = None
    target = conf_folder() / "experiment" / f"{folder.name}.yaml"
    if in_checkout():
        if not target.exists() or target.read_text() in (before, text):
            atomic.write_text(target, text)
        else:
            kept = target
    atomic.write_text(own, text)
    if in_checkout() and kept is None:
        return Recipe(target, folder.name, None)
    return Recipe(own, str(own), kept)


def in_checkout() -> bool:
    """Whether the current folder is the one whose conf/ is in use."""
    here = Path("conf")
    return here.is_dir() and here.resolve() == conf_folder().resolve()


def command(door: str, recipe: Recipe, config: TrainConfig, words: Mapping[str, str], **others: str) -> str:
    """A command line with the recipe, the choices and the words that a recipe cannot hold."""
    own = to_tree(config)
    kept = {key: words[key] for key in ("device", "accelerate") if key in words}
    kept |= {"runs": words["runs"]} if words["runs"] != TrainConfig.runs else {}
    named = {"env": own["env"]["name"], "algo": own["algo"]["name"]} | modules_named(own)
    given = {"experiment": recipe.name} | named | others | {"threads": shown(config.threads)} | kept
    return validate.command(door, [f"{key}={value}" for key, value in given.items()])


def fresh_seeds(seeds: Sequence[int], learners: int) -> str:
    """Seeds that no trial has seen, as the word seeds= takes them."""
    first = max(seeds) + learners
    return ",".join(str(first + index * learners) for index in range(FRESH_SEEDS))
