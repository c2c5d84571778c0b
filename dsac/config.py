"""From words on the command line to frozen, checked values; all that is wrong is said at once, before a file is made.

Hydra composes conf/, a strict loader turns the tree into the dataclasses of train.py's config and of the algorithm.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import yaml

from dsac.fields import at_least, choice


class ConfigError(ValueError):
    """What is wrong with a config, a line each: the key, the value and what would be right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class EnvConfig:
    """conf/env/<task>.yaml says what each field does."""

    name: str
    id: str | None = None
    backend: str = choice("engine", "engine", "gymnasium")
    xml: str | None = None
    task: str | None = None
    flatten: bool = False
    max_episode_steps: int | None = at_least(None, 1)


@dataclass(frozen=True)
class EvalConfig:
    """The eval section of conf/train.yaml."""

    episodes: int = at_least(10, 1)


@dataclass(frozen=True)
class TrainConfig:
    """conf/train.yaml says what each field does. `algo` is the algorithm's own Config."""

    env: EnvConfig
    algo: Any
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    seed: int = at_least(0, 0)
    learners: int = at_least(1, 1)
    total_env_steps: int = at_least(30_000_000, 1)
    device: str = choice("auto", "auto", "cpu", "cuda")
    threads: int | None = at_least(None, 1)
    accelerate: str = choice("eager", "eager")
    log_every_env_steps: int = at_least(2_000, 1)
    eval_every_env_steps: int = at_least(50_000, 1)
    checkpoint_every_env_steps: int = at_least(500_000, 1)
    keep_checkpoints: int = at_least(2, 1)
    runs: str = "runs"

    @property
    def seeds(self) -> list[int]:
        """One run seed a learner."""
        return [self.seed + learner for learner in range(self.learners)]


SHORTCUTS = ("num_envs", "updates_per_env_step")  # top-level words for fields of the algorithm


def conf_folder() -> Path:
    """conf/ of the repository, or the copy inside an installed package."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices(group: str) -> list[str]:
    """The yaml files of a group: algo, env, experiment."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def compose(words: Sequence[str]) -> dict[str, Any]:
    """key=value words -> the plain tree of conf/train.yaml with the groups chosen and the values set.

    Raises ConfigError for a malformed word, an unknown key or an unknown choice, with the nearest known name.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    malformed = [word for word in words if "=" not in word or word.startswith(("+", "~", "-"))]
    if malformed:
        raise ConfigError(*(f"{word!r} is not key=value (see --help)" for word in malformed))
    pairs = [(key, value) for key, _, value in (word.partition("=") for word in words)]
    groups = {path.name for path in conf_folder().iterdir() if path.is_dir()}
    chosen = {key: value for key, value in pairs if key in groups}
    module = chosen["algo"] if "." in chosen.get("algo", "") else None
    problems = [problem for group, name in chosen.items() if (problem := unknown_choice(group, name))]
    if problems:
        raise ConfigError(*problems)
    group_words = [
        f"{key}={known_choice(key, value)}" for key, value in chosen.items() if not (module and key == "algo")
    ]
    with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
        try:
            tree = hydra_compose("train", group_words)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(str(error).splitlines()[0]) from error
    OmegaConf.set_struct(tree, False)
    if module:
        tree.algo = algorithm_defaults(module)
    known = flat_keys(OmegaConf.to_container(tree, resolve=False))
    for key, value in pairs:
        if key in groups:
            continue
        if key not in known:
            problems.append(unknown_key(key, known))
            continue
        try:
            OmegaConf.update(tree, key, plain_value(value))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            problems.append(f"{key}={value}: {str(error).splitlines()[0]}")
    if problems:
        raise ConfigError(*problems)
    container = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def plain_value(text: str) -> Any:
    """The value of a word as yaml reads it, with 1e6 and 1_000 as numbers."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return yaml.safe_load(text) if text else None


def algorithm_defaults(module: str) -> dict[str, Any]:
    """The defaults of an algorithm outside the package, which has no yaml in conf/algo."""
    from dsac.algorithms import load

    try:
        return {**dataclasses.asdict(load(module).Config(name=module))}
    except ValueError as error:
        raise ConfigError(str(error)) from error


def known_choice(group: str, name: str) -> str:
    """The yaml of a choice: Humanoid for Humanoid-v5."""
    return name.removesuffix("-v5") if group == "env" else name


def unknown_choice(group: str, name: str) -> str | None:
    """What is wrong with a choice, or None."""
    if known_choice(group, name) in choices(group) or (group == "algo" and "." in name):
        return None
    if group == "env":
        import envs
        from envs.contract import UnsuitableEnvironment

        try:
            envs.resolve(name)
        except UnsuitableEnvironment as error:
            return f"env={name}: {error}"
    near = difflib.get_close_matches(name, choices(group), 1)
    return f"{group}={name}: " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(choices(group))}")


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The line that refuses a key, with the nearest known one."""
    near = difflib.get_close_matches(key, known, 1, 0.5) or [other for other in known if other.endswith(f".{key}")][:1]
    return f"unknown key {key!r}" + (f": did you mean {near[0]}?" if near else " (--help lists the keys)")


def flat_keys(tree: Any, prefix: str = "") -> list[str]:
    """Every key of a nested tree in dotted form, sections included."""
    keys = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += flat_keys(value, f"{prefix}{key}.")
    return keys


def load(tree: dict[str, Any]) -> TrainConfig:
    """A composed or saved tree -> a checked TrainConfig. Raises ConfigError with every problem found."""
    from dsac.algorithms import load as load_algorithm

    tree = {**tree, "algo": dict(tree["algo"])}
    problems: list[str] = []
    for key in SHORTCUTS:
        value = tree.pop(key, None)
        if value is None:
            continue
        if key in tree["algo"]:
            tree["algo"][key] = value
        else:
            problems.append(
                f"{key}={value}: {tree['algo'].get('name')} has no such setting, its updates follow from its epochs"
            )
    for key in ("experiment", "resume"):
        tree.pop(key, None)
    try:
        algorithm = load_algorithm(str(tree["algo"].get("name")))
    except ValueError as error:
        raise ConfigError(*problems, str(error)) from error
    values = read(TrainConfig, tree, "", problems, {"algo": algorithm.Config, "env": EnvConfig, "eval": EvalConfig})
    if problems:
        raise ConfigError(*problems)
    config = TrainConfig(**values)
    problems += getattr(config.algo, "problems", list)()
    if problems:
        raise ConfigError(*problems)
    return config


def read(
    schema: type[Any], tree: Any, path: str, problems: list[str], sections: dict[str, type[Any]] | None = None
) -> dict[str, Any]:
    """The constructor arguments of a dataclass from a plain tree; what is wrong is appended to `problems`."""
    if not isinstance(tree, dict):
        problems.append(f"{path.rstrip('.') or 'config'}={tree!r} must be a section of keys")
        return {}
    hints = typing.get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema)}
    problems += [unknown_key(f"{path}{key}", [f"{path}{name}" for name in fields]) for key in tree if key not in fields]
    values = {}
    for name, field in fields.items():
        key = f"{path}{name}"
        if sections and name in sections:
            before = len(problems)
            arguments = read(sections[name], tree.get(name), f"{key}.", problems)
            values[name] = sections[name](**arguments) if len(problems) == before else None
        elif name in tree:
            values[name] = checked(tree[name], hints[name], field.metadata, key, problems)
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"{key} is missing")
    return values


def checked(value: Any, kind: Any, rule: Any, key: str, problems: list[str]) -> Any:
    """The value as its field's type, within its range; a problem is noted and the value returned as it is otherwise."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    wanted = next(option for option in options if option is not type(None))
    try:
        value = as_type(value, wanted)
    except (TypeError, ValueError):
        problems.append(f"{key}={value!r} must be {describe_type(wanted)}")
        return value
    if "options" in rule and value not in rule["options"]:
        near = difflib.get_close_matches(str(value), rule["options"], 1)
        problems.append(
            f"{key}={value} must be one of {', '.join(rule['options'])}" + (f": {near[0]}?" if near else "")
        )
    low, high, above = rule.get("low"), rule.get("high"), rule.get("above")
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    if numbers and not (
        (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)
    ):
        bounds = [f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else ""]
        bounds.append(f"above {above}" if above is not None else "")
        problems.append(f"{key}={value} must be {' and '.join(filter(None, bounds))}")
    return value


def as_type(value: Any, wanted: Any) -> Any:
    """`value` as the wanted plain type, nothing lost: 1e6 is an int, 1.5 is not. Raises TypeError or ValueError."""
    if wanted == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise TypeError
        entries = tuple(as_type(entry, int) for entry in value)
        if min(entries) < 1:
            raise ValueError
        return entries
    if wanted is bool or isinstance(value, bool):
        if wanted is bool and isinstance(value, bool):
            return value
        raise TypeError
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is float and isinstance(value, int | float) and abs(value) < float("inf"):
        return float(value)
    if wanted in (int, str) and isinstance(value, wanted):
        return value
    raise TypeError


def describe_type(wanted: Any) -> str:
    """A type in words for an error line."""
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word"}
    return words.get(wanted, "a list of positive whole numbers, such as [256,256]")


def to_tree(config: TrainConfig) -> dict[str, Any]:
    """The config as plain dicts and lists, such that load(to_tree(config)) == config."""
    tree = dataclasses.asdict(config)
    return typing.cast("dict[str, Any]", lists(tree))


def lists(value: Any) -> Any:
    """Tuples as lists, all the way down: yaml has no tuples."""
    if isinstance(value, dict):
        return {key: lists(entry) for key, entry in value.items()}
    return [lists(entry) for entry in value] if isinstance(value, list | tuple) else value
