"""What a command asks for: a new run, or one to go on with, and which of its settings may differ from then on.

Every setting says itself, in its field, whether it may change. Free: it changes neither what is learned nor how it is
measured. Declared: it changes that, so `allow_change=true` must say that it is meant. Fixed: the saved state is made
for it.
"""

from __future__ import annotations

import copy
import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsac.config import GROUPS, SHORTCUTS, algorithm_schema, compose, flat_keys, known_choice, load, set_value, to_tree
from dsac.errors import CheckpointError, ConfigError
from dsac.persistence.atomic import read_manifest
from dsac.runs.saved_config import permitted, saved, source_problems
from dsac.schema import ranges
from dsac.schema.overrides import key_values
from dsac.schema.run_config import ARGUMENTS, NOT_OF_A_RUN, TrainConfig, algorithm_rules, that_change
from dsac.schema.validate import brief, flat, plain_value, unknown_key

FREE, FIXED = that_change(ranges.FREE), that_change(ranges.FIXED)  # those of the algorithm: `fixed`
COMMAND = ("resume", "allow_change")  # overrides about this command, not about the run


@dataclass(frozen=True)
class Request:
    """The settings asked for, not checked yet; the run to go on with; `auto`: look for one; the modules named."""

    tree: dict[str, Any]
    run: Path | None
    auto: bool
    named: Mapping[str, str]


def requested(overrides: Sequence[str], problems: list[str]) -> Request:
    """What the overrides of the command line ask for; what is wrong is noted in `problems`.

    Raises ConfigError when there is no run to continue.
    """
    pairs = dict(key_values(overrides, problems))
    resume, allow = pairs.get("resume", "null"), plain_value(pairs.get("allow_change", "false"))
    if not isinstance(allow, bool):
        problems.append(f"allow_change={pairs['allow_change']} must be true or false")
    others = {key: value for key, value in pairs.items() if key not in COMMAND}
    if resume in ("", "null", "auto"):
        tree = compose([f"{key}={value}" for key, value in others.items()], problems)
        problems += source_problems(tree)
        return Request(tree, None, resume == "auto", pairs)
    run = Path(resume).expanduser()
    before, asked = saved_settings(run, pairs), continued(run, others, pairs, problems)
    problems += refusals(run, differences(before, asked), allow is True, str(before["algo"]["name"]))
    return Request(asked, run, False, pairs)


def saved_settings(run: Path, named: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the newest checkpoint of a run was made with, whatever was done to its config.yaml since."""
    tree = saved(run, named)
    for folder in sorted((run / "checkpoints").glob("step-*"), reverse=True):
        try:
            found = read_manifest(folder).get("config", tree)
        except CheckpointError:
            continue  # the reason is given where the checkpoint is read
        return complete(permitted(found, folder, named))
    return complete(tree)


def continued(run: Path, overrides: Mapping[str, str], named: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """The tree of config.yaml with the overrides put in."""
    tree = complete(saved(run, named))
    known = flat_keys(tree)
    for key, value in overrides.items():
        name = f"algo.{key}" if key in SHORTCUTS else key
        if key in GROUPS:
            if known_choice(key, value) != tree[key]["name"]:
                problems.append(refusal(run, key, tree[key]["name"], value))
        elif name in known or name.startswith(ARGUMENTS):
            set_value(tree, name, plain_value(value))
        else:
            problems.append(unknown_key(key, known))
    return tree


def complete(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A saved tree with the settings that came later at their defaults."""
    names = {group: str(tree[group]["name"]) for group in GROUPS}
    whole = compose(["experiment=null", *(f"{group}={name}" for group, name in names.items())], [])
    for key in (*COMMAND, *SHORTCUTS):
        whole.pop(key, None)
    for key, value in tree.items():
        section = whole.get(key)
        both = isinstance(section, dict) and isinstance(value, dict)
        whole[key] = (section or {}) | value if both else value  # what does not fit is refused by `load`
    return whole


def differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by dotted key: (before, asked)."""
    old, new = flat(before), flat(asked)
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def learned_otherwise(before: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """The settings in which a config departs from a saved tree so that the run is another from there on."""
    scheduled = config.algo.learning_rate_schedule != "constant"  # then the rates follow the budget
    free = FREE - {"total_env_steps"} if scheduled else FREE
    return [key for key in differences(complete(before), to_tree(config)) if key not in free | NOT_OF_A_RUN]


def fixed(key: str, algorithm: str | None = None) -> bool:
    """Whether the saved state is made for this setting; without the name of an algorithm, that of any of ours."""
    if key.startswith("algo."):
        return key in fixed_of(algorithm)
    return key in FIXED or key in GROUPS or key.startswith("env.")


@functools.cache
def fixed_of(algorithm: str | None) -> frozenset[str]:
    """The fixed settings of an algorithm, or of all of ours."""
    from dsac.algorithms import names  # brings torch along, for which few commands have to wait

    schemas = [algorithm_schema(name, []) for name in ([algorithm] if algorithm else names())]
    rules = [algorithm_rules(schema).items() for schema in schemas if schema]
    return frozenset(key for one in rules for key, rule in one if rule.change == ranges.FIXED)


def refusals(
    run: Path, changed: Mapping[str, tuple[Any, Any]], allow_change: bool, algorithm: str | None = None
) -> list[str]:
    """A line for each change that may not be made, or not without saying so."""
    return [
        refusal(run, key, before, asked, algorithm)
        for key, (before, asked) in changed.items()
        if fixed(key, algorithm) or not (key in FREE or allow_change)
    ]


def refusal(run: Path, key: str, before: Any, asked: Any, algorithm: str | None = None) -> str:
    """The line that refuses a change."""
    change = f"{key}={brief(asked)}: the run has {brief(before)}"
    if fixed(key, algorithm):
        override = shlex.quote(f"init_from={run}")
        return f"{change}, which is fixed; a new run with {override} takes its weights where they fit"
    return f"{change}; add allow_change=true if the rest of it is meant to be learned or measured another way"


def newest_like(config: TrainConfig, folders: Sequence[Path], named: Mapping[str, str]) -> Path | None:
    """The newest run in `folders` whose settings are these, but for free ones; None where there is none.

    What else lies there is data: nothing is imported that the overrides `named` do not name.
    """
    paths = [path for folder in folders for path in folder.glob("*/config.yaml")]
    for path in sorted(paths, key=lambda path: path.parent.name, reverse=True):
        try:
            found = to_tree(load(copy.deepcopy(saved_settings(path.parent, named))))
        except ConfigError:
            continue  # of another time, or it imports what was not named
        if differences(found, to_tree(config)).keys() <= FREE:
            return path.parent
    return None
