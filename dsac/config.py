"""From overrides on the command line to frozen, checked values; everything wrong is reported at once, before any file.

Hydra composes conf/; `load` turns the tree into a TrainConfig, which holds the algorithm's own Config.
Values are data: nothing in them is resolved, imported or run.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dsac.errors import ConfigError
from dsac.schema.importing import refusals
from dsac.schema.overrides import key_values, near_name, same_name
from dsac.schema.recipes import merge, read_recipe, recipe_path
from dsac.schema.run_config import ARGUMENTS, SECTIONS, EnvConfig, RayConfig, TrainConfig
from dsac.schema.validate import brief, flat, lists, plain_value, read, unknown_key

GROUPS = ("algo", "env")  # each value is the name of a file below conf/
SHORTCUTS = ("num_envs", "updates_per_env_step")  # short for algo.num_envs and so on
CADENCES = ("log_every_env_steps", "eval_every_env_steps", "checkpoint_every_env_steps", "algo.warmup_env_steps")


def conf_folder() -> Path:
    """conf/ of the repository, or the copy inside an installed package."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices(group: str) -> list[str]:
    """The yaml files of a group: algo, env, experiment."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def refuse_shadowed_envs() -> None:
    """Raise ConfigError where `import envs` would find something else than the package beside this one."""
    ours = Path(__file__).resolve().parent.parent / "envs" / "__init__.py"
    spec = importlib.util.find_spec("envs")
    found = spec.origin if spec else None
    if found is None or Path(found).resolve() != ours:
        raise ConfigError(f"{found} hides the package envs of this program: rename it, or start from another folder")


def compose(overrides: Sequence[str], problems: list[str] | None = None) -> dict[str, Any]:
    """key=value overrides -> the plain tree of conf/train.yaml with the groups chosen and the values set.

    What is malformed, unknown or ambiguous is left out of the tree and added to `problems`, with the nearest name, so
    that `load` reports it with what it finds itself. Raises ConfigError where no list is given.
    """
    if problems is None:
        tree = compose(overrides, problems := [])
        if problems:
            raise ConfigError(*problems)
        return tree
    pairs = key_values(overrides, problems)
    given = dict(pairs)
    recipe = recipe_named(given, problems)
    chosen = {group: str(recipe[group]["name"]) for group in GROUPS if "name" in recipe.get(group, {})}
    chosen |= {key: value for key, value in pairs if key in GROUPS}
    refused = {group: problem for group, name in chosen.items() if (problem := unknown_choice(group, name))}
    problems += refused.values()
    chosen = {group: name for group, name in chosen.items() if group not in refused}
    tree = composed({group: known_choice(group, name) for group, name in chosen.items()})
    merge(tree, recipe)
    tree["experiment"] = experiment_named(given)

    values = {key: value for key, value in pairs if key not in (*GROUPS, "experiment")}
    for key in SHORTCUTS:
        if key in values and f"algo.{key}" in values:
            problems.append(
                f"{key}={values[key]} and algo.{key}={values[f'algo.{key}']} say the same: give one of them"
            )
    known = flat_keys(tree)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section in GROUPS and name == "name":
            problems.append(f"{key}={value}: choose it with {section}={value}")
        elif key in known or key.startswith(ARGUMENTS):
            set_value(tree, key, plain_value(value))
        elif section not in refused:
            problems.append(unknown_key(key, known))
    return tree


def experiment_named(given: Mapping[str, str]) -> str | None:
    """The recipe that experiment= names, or else conf/train.yaml; None for none."""
    default = yaml.safe_load((conf_folder() / "train.yaml").read_text())["experiment"]
    name = given.get("experiment", default)
    return None if name in (None, "null") else str(name)


def recipe_named(given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """The recipe that experiment= names; empty for none. A module that it imports must be in `given` too."""
    name = experiment_named(given)
    if name is None:
        return {}
    try:
        recipe = read_recipe(recipe_path(name, conf_folder() / "experiment"))
    except ValueError as error:
        problems.append(f"experiment={name}: {error}")
        return {}
    sections = {group: recipe.setdefault(group, {}) for group in GROUPS}
    if wrong := [key for key, section in sections.items() if not isinstance(section, dict)]:
        problems.append(f"experiment={name}: {wrong[0]} must be a section of keys, its choice the key name")
        return {}
    recipe.pop("experiment", None)  # in the config.yaml of a run: where its settings came from
    if recipe.pop("resume", None):
        problems.append(f"experiment={name}: a recipe cannot say resume")
    shortcuts = {key: recipe.pop(key) for key in SHORTCUTS if key in recipe}
    sections["algo"].update((key, value) for key, value in shortcuts.items() if value is not None)
    refused = refusals(recipe, given, f"experiment={name}")
    problems += refused
    return {} if refused else recipe


def composed(chosen: Mapping[str, str]) -> dict[str, Any]:
    """conf/train.yaml with the given choices, by group. An algorithm outside the package brings its own defaults."""
    tree = copy.deepcopy(of_yaml(tuple(f"{group}={name}" for group, name in chosen.items() if name in choices(group))))
    module = chosen.get("algo", "")
    if "." in module:
        task = yaml.safe_load((conf_folder() / "env" / f"{tree['env']['name']}.yaml").read_text())
        tree["algo"] = algorithm_defaults(module) | task.get("algo", {})
    return tree


@functools.cache
def of_yaml(choices: tuple[str, ...]) -> dict[str, Any]:
    """conf/train.yaml with the yaml files of the given choices. Kept: a sweep of a hundred runs asks for a few."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
            container = OmegaConf.to_container(hydra_compose("train", list(choices)), resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{conf_folder()}: {str(error).splitlines()[0]}") from error
    return typing.cast("dict[str, Any]", container)


def algorithm_defaults(module: str) -> dict[str, Any]:
    """The defaults of an algorithm outside the package, which has no yaml in conf/algo. Raises ValueError."""
    from dsac.algorithms import load as load_algorithm

    return typing.cast("dict[str, Any]", lists(dataclasses.asdict(load_algorithm(module).Config(name=module))))


def known_choice(group: str, name: str) -> str:
    """The yaml of a choice, whatever its case and punctuation: Humanoid for humanoid-v5, dsac_t for DSAC-T."""
    short = re.sub(r"-v5$", "", name, flags=re.IGNORECASE) if group == "env" else name
    return same_name(short, choices(group)) or short


def unknown_choice(group: str, name: str) -> str | None:
    """What is wrong with a choice, or None."""
    if known_choice(group, name) in choices(group):
        return None
    if group == "algo" and "." in name and all(part.isidentifier() for part in name.split(".")):
        try:
            algorithm_defaults(name)
        except ValueError as error:
            return f"algo={name}: {error}"
        return None
    if group == "env":
        base, *version = re.split(r"(?=-v\d+$)", name, maxsplit=1, flags=re.IGNORECASE)
        return env_problem(EnvConfig((same_name(base, choices(group)) or base) + "".join(version).lower()))
    near = near_name(name, choices(group))
    return f"{group}={name}: " + (f"did you mean {near}?" if near else f"known are {', '.join(choices(group))}")


def env_problem(env: EnvConfig) -> str | None:
    """What is wrong with a task, a Gymnasium id or a robot of the user's own, or None; no environment is built."""
    import envs
    from envs.contract import UnsuitableEnvironment

    try:
        task_id = envs.resolve(env.name, env.id, env.task)
    except UnsuitableEnvironment as error:
        given = f"env={env.name}" if env.id is None else f"env.id={env.id}"
        return str(error) if str(error).startswith(given) else f"{given}: {error}"
    try:
        envs.refuse_arguments(env.backend, env.kwargs, env.wrappers)
        envs.require_arguments(task_id, env.kwargs, env.wrappers)
    except UnsuitableEnvironment as error:
        return str(error)
    if env.task is not None and (env.xml is None or not Path(env.xml).is_file()):
        return f"env.xml={env.xml}: no such file; env=custom needs the MJCF of the robot"
    if env.name != envs.CUSTOM and (env.xml is not None or env.randomise):
        key, value = ("xml", env.xml) if env.xml is not None else ("randomise", "true")
        return f"env.{key}={value} belongs to a robot of your own: env=custom"
    return None


def flat_keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every key of a nested tree in dotted form, sections included."""
    keys = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += flat_keys(value, f"{prefix}{key}.")
    return keys


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key that the tree has, or an argument of an env's constructor."""
    *sections, name = key.split(".")
    for section in sections:
        if key.startswith(ARGUMENTS) and not isinstance(tree.get(section), dict):
            tree[section] = {}
        if not isinstance(tree[section], dict):
            return  # the section itself was given a value, which the loader refuses
        tree = tree[section]
    tree[name] = value.split(",") if key == "env.wrappers" and isinstance(value, str) else value


def load(tree: Mapping[str, Any], problems: Sequence[str] = ()) -> TrainConfig:
    """A composed or saved tree -> a checked TrainConfig. Raises ConfigError with all problems, those given first."""
    found = list(problems)
    tree = {key: copy.copy(value) for key, value in tree.items() if key not in ("resume", "allow_change")}
    algo = tree.get("algo")
    for key in SHORTCUTS:
        value = tree.pop(key, None)
        if value is not None and isinstance(algo, dict):
            if key not in algo:
                found.append(unknown_key(f"algo.{key}", ()))
            else:
                algo[key] = value
    for section in ("export", "ray"):
        tree.setdefault(section, {})  # saved by a release without it
    sections = dict(SECTIONS)
    if not isinstance(algo, dict):
        found.append(f"algo={brief(algo)} must be a section of keys")
    else:
        schema = algorithm_schema(algo.get("name"), found)
        sections |= {"algo": schema} if schema else {}
    values = read(TrainConfig, tree, "", found, sections)
    config = TrainConfig(**values) if "algo" in sections else None
    if config and config.env and (problem := env_problem(config.env)):
        found.append(problem)
    if config and config.algo:
        found += config.algo.problems()
        if config.overlap and not config.algo.off_policy:
            found.append(f"overlap=true: {config.algo.name} learns from the newest block alone and must wait for it")
        found += collect_problems(config)
    if found or config is None:
        raise ConfigError(*found)
    return config


def collect_problems(config: TrainConfig) -> list[str]:
    """Contradictions between the settings that say where environments are stepped, a line each."""
    if config.collect == "local":
        given: dict[str, tuple[Any, Any]] = {"collectors": (config.collectors, 1)}
        for item in dataclasses.fields(RayConfig) if config.ray else ():
            given[f"ray.{item.name}"] = (getattr(config.ray, item.name), item.default)
        return [f"{key}={brief(value)} needs collect=ray" for key, (value, usual) in given.items() if value != usual]
    found = ["overlap=true: collect=ray collects beside learning by itself"] if config.overlap else []
    if not config.algo.off_policy and config.algo.num_envs % config.collectors:
        found.append(
            f"collectors={config.collectors} does not divide algo.num_envs={config.algo.num_envs}, "
            f"which {config.algo.name} deals out among them"
        )
    return found


def algorithm_schema(name: Any, problems: list[str]) -> type[Any] | None:
    """The Config of an algorithm; None where there is none, the reason is added to `problems`."""
    from dsac.algorithms import load as load_algorithm

    try:
        return load_algorithm(str(name)).Config
    except ValueError as error:
        problems.append(f"algo={name}: {error}")
        return None


def remark(config: TrainConfig) -> str | None:
    """A line on cadences or a warm-up longer than the budget, which is allowed but rarely meant; None without."""
    values = flat(to_tree(config))
    beyond = [f"{key}={values[key]}" for key in CADENCES if key in values and values[key] > config.total_env_steps]
    if not beyond:
        return None
    return (
        f"{', '.join(beyond)} beyond total_env_steps={config.total_env_steps}; "
        "an evaluation and a checkpoint are made at the end in any case"
    )


def to_tree(config: TrainConfig) -> dict[str, Any]:
    """The config as plain dicts and lists, such that load(to_tree(config)) == config."""
    return typing.cast("dict[str, Any]", lists(dataclasses.asdict(config)))
