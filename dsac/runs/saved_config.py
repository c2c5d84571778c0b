"""The configs of saved runs, which are data: read as plain trees, and nothing that they name is imported by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsac.config import GROUPS
from dsac.errors import ConfigError, FileError
from dsac.runs.config_text import read_config
from dsac.schema.importing import USES, bare, refusals
from dsac.schema.run_config import ARGUMENTS, EnvConfig
from dsac.schema.validate import brief, flat, plain_value, read, shown


def saved(run: Path, named: Mapping[str, str], uses: Sequence[str] = USES) -> dict[str, Any]:
    """The saved config of a run as a plain tree, not checked yet.

    A run folder is data: a module of the user's own that its config imports (algo=package.module, or
    env.id=module:Name-v0, env.task=package.module, env.wrappers=[module:Class]) must be among the overrides `named`
    beside the run, if the caller `uses` it. Raises ConfigError where it is not, or where there is no config.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{run} is not a run folder: it holds no config.yaml")
    try:
        tree = read_config(path)
    except FileError as error:
        raise ConfigError(str(error)) from error
    return permitted(tree, path, named, uses)


def permitted(tree: Any, path: Path, named: Mapping[str, str], uses: Sequence[str] = USES) -> dict[str, Any]:
    """What a file of a run holds as its config, once it is one and brings in no code that was not `named`.

    Raises ConfigError where it is none, or does; see dsac.schema.importing.
    """
    if not isinstance(tree, dict) or not all(isinstance(tree.get(group), dict) for group in GROUPS):
        raise ConfigError(f"{path} holds no config of a run")
    if not all(isinstance(tree[group].get("name"), str) for group in GROUPS):
        raise ConfigError(f"{path} holds no config of a run: it names no task or no algorithm")
    if refused := refusals(tree, named, uses=uses):
        raise ConfigError(*refused)
    return tree


def saved_env(tree: Mapping[str, Any], named: Mapping[str, str]) -> EnvConfig:
    """The env of a saved tree, for its policies. Raises ConfigError, also where arguments `named` beside the run are
    not those of the run.
    """
    problems: list[str] = []
    values = read(EnvConfig, tree["env"], "env.", problems)
    theirs = flat({"env": tree["env"]})
    problems += [
        f"{key}={text}: the run has {brief(theirs.get(key))}, and its policies keep their env"
        for key, text in named.items()
        if key == "env.wrappers" or key.startswith(ARGUMENTS)
        if bare(shown(plain_value(text))) != bare(shown(theirs.get(key)))
    ]
    if problems:
        raise ConfigError(*problems)
    return EnvConfig(**values)


def source_problems(tree: Mapping[str, Any]) -> Sequence[str]:
    """What keeps a new run from starting from the weights of the run in `init_from`, as far as the configs tell."""
    if tree.get("init_from") is None:
        return ()
    source = Path(str(tree["init_from"]))
    try:
        found = saved(source, {}, uses=())
    except ConfigError as error:
        return [f"init_from={source}: {problem}" for problem in error.problems]
    pairs = {
        "algo": (found["algo"].get("name"), tree["algo"].get("name")),
        "algo.activation": (found["algo"].get("activation"), tree["algo"].get("activation")),
    }
    problems = [
        f"init_from={source}: {key} is {brief(theirs)} there, {brief(ours)} here"
        for key, (theirs, ours) in pairs.items()
        if theirs != ours
    ]
    learners = found.get("learners", 1)
    if learners not in (1, tree.get("learners")):
        problems.append(f"init_from={source}: it has {learners} learners, which start as many: learners={learners}")
    return problems
