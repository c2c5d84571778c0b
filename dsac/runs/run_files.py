"""What the files of a run folder say of the run, checked: its settings, versions, end, curves and critics.

A folder may come from anyone. Nothing that its config names is imported; what does not fit is a ConfigError or
FileError of one line.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsac.config import choices
from dsac.errors import ConfigError, FileError
from dsac.evaluation.calibration import TAGS
from dsac.runs.metrics import SCORE, picked
from dsac.runs.saved_config import saved
from dsac.schema.files import read_json
from dsac.schema.plain_data import misfit
from dsac.schema.ranges import rules_of
from dsac.schema.run_config import SECTIONS, TrainConfig
from dsac.schema.validate import checked, flat, hints_of

FROZEN = "train/frozen"
RATES = {"env_steps": "rate/env_steps_per_second", "updates": "rate/updates_per_second"}
CURVES = ("env_steps", "updates", "wall_time", "returns")
FACTS = ("task", "versions", "git_revision", "device", "cpu", "cores", "threads")
TEXT, NUMBER = (str, None), (int, float, None)
SESSION = {
    "versions": {"mujoco": TEXT, "gymnasium": TEXT, str: TEXT},
    "task?": TEXT, "git_revision?": TEXT, "device?": TEXT, "cpu?": TEXT, "cores?": NUMBER, "threads?": NUMBER,
    "ended?": {"exit_code": (int, None), "env_steps": int},
}  # fmt: skip
OF_CRITICS = ("mean", "return_mean", "return_deviation", "sigma", "covered")
CRITICS = {
    "env_steps": int,
    "states": int,
    "samples": int,
    **{key: [float] for key in OF_CRITICS[:3]},
    "sigma?": [float],
    "covered?": [float],
}
NEEDED = (
    "seed", "total_env_steps", "eval_every_env_steps", "eval.episodes", "env.name", "env.id", "env.backend",
    "algo.name", "algo.num_envs",
)  # fmt: skip
DEFECT = 1  # the exit code of what no code was given to

Array = NDArray[np.float64]


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run, dotted keys. Raises ConfigError."""
    settings = flat(saved(folder, {}, uses=()))
    if problem := unfit(settings):
        raise ConfigError(f"{folder / 'config.yaml'}: {problem}")
    return settings


def unfit(settings: Mapping[str, Any]) -> str | None:
    """Why settings cannot be those of a run, or None. Those of an algorithm are not looked into, but for its name."""
    problems = [f"{key} is missing" for key in NEEDED if key not in settings]
    for prefix, schema in (("", TrainConfig), *((f"{name}.", schema) for name, schema in SECTIONS.items())):
        hints = hints_of(schema)
        for name, rule in rules_of(schema).items():
            if (key := f"{prefix}{name}") in settings:
                checked(settings[key], hints[name], rule, key, problems)
    problems += [
        f"{key} holds what cannot be printed" for key, value in settings.items() if not all_printable(key, value)
    ]
    if problems:
        return problems[0]
    names = {"env": settings["env.name"], "algo": settings["algo.name"]}
    if "." in str(names["algo"]):  # of one's own, which is not imported
        del names["algo"]
    unknown = [
        f"{group}.name={name} is none of this version" for group, name in names.items() if name not in choices(group)
    ]
    return unknown[0] if unknown else None


def all_printable(*values: Any) -> bool:
    """Whether plain data holds no control characters, such as those that move a terminal's cursor."""
    return all(
        value.isprintable() if isinstance(value, str) else all_printable(*value) if isinstance(value, list) else True
        for value in values
    )


def facts_of(folder: Path) -> tuple[dict[str, Any], int | None, float]:
    """What run.json says: the newest session's facts, its exit code and the env steps at its end.

    No exit code while it goes on, and where it was killed. Raises ConfigError.
    """
    path = folder / "run.json"
    found = read_json(path)
    problem = misfit(found, {"sessions": [SESSION]})
    if problem is None and not found["sessions"]:
        problem = "there is no session"
    if problem is not None:
        raise ConfigError(f"{path} does not say what made the run: {problem}")
    sessions = found["sessions"]
    facts = {key: sessions[-1].get(key) for key in FACTS}
    simulators = [str(session["versions"]["mujoco"]) for session in sessions]
    facts["versions"] = {**facts["versions"], "mujoco": " then ".join(dict.fromkeys(simulators))}
    if not all_printable(*facts.values(), *facts["versions"], *facts["versions"].values()):
        raise ConfigError(f"{path} holds what cannot be printed")
    end = sessions[-1].get("ended")
    if end is None:
        return facts, None, 0.0
    return facts, DEFECT if end["exit_code"] is None else end["exit_code"], float(end["env_steps"])


def curves_of(path: Path) -> tuple[dict[str, Any], dict[str, float], float | None, dict[str, float]]:
    """The evaluations in a metrics.csv, its rates, the env steps at which it was frozen, and the newest figures of its
    critics. Raises FileError."""
    found = picked(path, (SCORE, FROZEN, *RATES.values(), *TAGS.values()))
    curves: dict[str, Any] = dict(zip(CURVES, found[SCORE].T.copy(), strict=True))
    if problem := disordered(curves["env_steps"]):
        raise FileError(f"{path}: {problem}")
    rates = {key: statistics.median(found[tag][:, 3].tolist()) for key, tag in RATES.items() if len(found[tag])}
    frozen = found[FROZEN][found[FROZEN][:, 3] > 0]
    critics = {name: float(found[tag][-1, 3]) for name, tag in TAGS.items() if len(found[tag])}
    return curves, rates, float(frozen[0, 0]) if len(frozen) else None, critics


def disordered(env_steps: Array) -> str | None:
    """What is wrong with the env steps (K,) of evaluations, or None."""
    rising = not len(env_steps) or (env_steps[0] > 0 and bool((np.diff(env_steps) >= 0).all()))
    return None if rising else "its evaluations are not in order"


def critics_of(path: Path) -> Mapping[str, Any] | None:
    """What dsac.compare.calibration found, if it was asked and all of it is there; otherwise it is measured anew."""
    try:
        found = read_json(path)
    except FileError:
        return None
    if misfit(found, CRITICS) is not None or not found["states"]:
        return None
    return found if all(len(found[key]) == found["states"] for key in OF_CRITICS if key in found) else None
