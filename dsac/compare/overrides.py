"""What the task, algorithm and experiment of a run bring, and the settings in which the run departs from that."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from dsac.config import choices, compose
from dsac.schema.validate import flat, shown

LEFT_OUT = ("seed", "runs", "resume", "experiment")  # a command that makes a run again says these in another way


def base_choice(settings: Mapping[str, Any]) -> dict[str, str]:
    """The task, the algorithm and the experiment of a run; null for one that is a file, which may be gone."""
    experiment = settings.get("experiment")
    known = experiment if experiment in choices("experiment") else "null"
    return {"env": settings["env.name"], "algo": settings["algo.name"], "experiment": str(known)}


def overrides(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, dotted keys, that are not what its task, algorithm and experiment bring."""
    names = base_choice(settings)
    defaults = defaults_of(**names)
    return {
        key: value
        for key, value in settings.items()
        if key not in (*LEFT_OUT, *names, "env.name", "algo.name")
        and (key not in defaults or shown(defaults[key]) != shown(value))
    }


def experiment_matters(settings: Mapping[str, Any]) -> bool:
    """Whether the algorithm of a run has other settings with one experiment of conf/ than with another."""
    given = [defaults_of(**{**base_choice(settings), "experiment": name}) for name in choices("experiment")]
    return any(one.get(key) != given[0][key] for one in given for key in given[0] if key.startswith("algo."))


@functools.cache
def defaults_of(env: str, algo: str, experiment: str) -> Mapping[str, Any]:
    """What a run has for which nothing else was said, dotted keys; of an algorithm outside the package nothing."""
    inside = "." not in algo
    tree = flat(compose([f"env={env}", f"experiment={experiment}", *([f"algo={algo}"] if inside else [])]))
    return {key: value for key, value in tree.items() if inside or not key.startswith("algo.")}
