"""Plain trees to the arguments of dataclasses, strictly: unknown keys, wrong types and values out of range are noted.

Ranges are those of dsac.schema.ranges. Values are data: nothing in them is resolved, imported or run.
"""

from __future__ import annotations

import dataclasses
import difflib
import shlex
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any

from dsac.schema.plain_data import parse_yaml
from dsac.schema.ranges import rules_of

LONGEST_SHOWN = 200  # letters of a value in a message
DEEPEST_ARGUMENT = 8  # sections within sections
MOST_OF_ARGUMENT = 2**63
HINTS: dict[type[Any], dict[str, Any]] = {}


def plain_value(text: str) -> Any:
    """null, true, false, numbers (1e6, 1_000), quoted text and [lists] as what they mean; any other text is itself."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text.lower() not in ("", "null", "true", "false") and not text.startswith(("[", "{", "'", '"')):
        return text
    try:
        value = parse_yaml(text)
    except ValueError:
        return text  # refused by the type of its field
    return [plain_value(str(entry)) for entry in value] if isinstance(value, list) else value


def read(
    schema: type[Any], tree: Any, path: str, problems: list[str], sections: Mapping[str, type[Any]] | None = None
) -> dict[str, Any]:
    """The constructor arguments of a dataclass from a plain tree; what is wrong is appended to `problems`.

    A section with a problem comes back as None.
    """
    if not isinstance(tree, dict):
        problems.append(f"{path.rstrip('.') or 'config'}={brief(tree)} must be a section of keys")
        return {}
    hints, rules = hints_of(schema), rules_of(schema)
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
            values[name] = checked(tree[name], hints[name], rules[name], key, problems)
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"{key} is missing")
    return values


def hints_of(schema: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields; working them out anew takes longer than all the rest."""
    if schema not in HINTS:
        HINTS[schema] = typing.get_type_hints(schema)
    return HINTS[schema]


def checked(value: Any, kind: Any, rule: Any, key: str, problems: list[str]) -> Any:
    """The value as its field's type, within its range; a problem is noted and the value returned as it is otherwise."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if kind is Any or (value is None and type(None) in kinds):
        return value
    wanted = next(kind for kind in kinds if kind is not type(None))
    try:
        value = as_type(value, wanted)
    except (TypeError, ValueError, OverflowError):
        problems.append(f"{key}={brief(value)} must be {describe_type(wanted)}")
        return value
    if "options" in rule and value not in rule["options"]:
        near = difflib.get_close_matches(str(value), rule["options"], 1)
        hint = f": did you mean {near[0]}?" if near else ""
        problems.append(f"{key}={value} must be one of {', '.join(rule['options'])}{hint}")
    low, high, above = rule.get("low"), rule.get("high"), rule.get("above")
    bounds = [f"at least {low}"] if low is not None and value < low else []
    bounds += [f"at most {high}"] if high is not None and value > high else []
    bounds += [f"above {above}"] if above is not None and value <= above else []
    if bounds:
        problems.append(f"{key}={brief(value)} must be {' and '.join(bounds)}")
    return value


def as_type(value: Any, wanted: Any) -> Any:
    """`value` as the wanted plain type, nothing lost: 1e6 is an int, 1.5 is not. Raises TypeError or ValueError."""
    if (origin := typing.get_origin(wanted)) is not None:
        return entries(value, typing.get_args(wanted)[0]) if origin is tuple else arguments(value)
    if wanted is bool or isinstance(value, bool):
        if wanted is bool and isinstance(value, bool):
            return value
        raise TypeError
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is float and isinstance(value, int | float) and abs(value) < float("inf"):
        return float(value)
    if wanted is int and isinstance(value, int):
        return value
    if wanted is str and isinstance(value, str) and value and "${" not in value:
        return value
    raise TypeError


def entries(value: Any, wanted: Any) -> tuple[Any, ...]:
    """A list as a tuple of the wanted plain type, whole numbers from 1 on. Raises TypeError or ValueError."""
    if isinstance(value, str) and "," in value:
        value = [plain_value(entry) for entry in value.split(",")]
    if not isinstance(value, list | tuple) or not value:
        raise TypeError
    found = tuple(as_type(entry, wanted) for entry in value)
    if wanted is int and min(found) < 1:
        raise ValueError
    return found


def arguments(value: Any, left: int = DEEPEST_ARGUMENT) -> dict[str, Any]:
    """Arguments by name: texts, numbers, true, false, lists of them and sections of more. Raises TypeError."""
    if not isinstance(value, dict) or not left:
        raise TypeError
    for name, argument in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError
        if isinstance(argument, dict):
            arguments(argument, left - 1)
            continue
        for entry in argument if isinstance(argument, list | tuple) else [argument]:
            number = isinstance(entry, int | float) and abs(entry) < MOST_OF_ARGUMENT  # false for nan
            if not number and not (isinstance(entry, str) and entry.isprintable() and "${" not in entry):
                raise TypeError
    return typing.cast("dict[str, Any]", lists(value))


def describe_type(wanted: Any) -> str:
    """A type in words for an error line."""
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word"}
    if wanted == Mapping[str, Any]:
        return "arguments by name, each a text, a finite number, true, false or a list of such"
    if wanted == tuple[str, ...]:
        return "a list of words, such as Hopper,Ant"
    return words.get(wanted, "a list of positive whole numbers, such as [256,256]")


def shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def brief(value: Any) -> str:
    """A value for a line on the screen: as `shown`, but no longer than a line takes."""
    text = shown(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def as_word(key: str, value: Any) -> str:
    """key=value as one would type it on the command line."""
    return f"{key}={shown(lists(value))}"


def command(name: str, arguments: Iterable[str]) -> str:
    """A command line of this package, as a shell takes it whatever its arguments hold: spaces, quotes."""
    return f"python -m dsac.{name} {shlex.join(arguments)}"


OTHER_WORDS = {
    "alpha": "initial_temperature", "buffer_size": "replay_capacity", "clip_range": "clip_high", "cuda": "device",
    "ent_coef": "entropy_coefficient", "env_id": "env.id", "env_name": "env", "eval_freq": "eval_every_env_steps",
    "gpu": "device", "learning_rate": "learning_rate", "learning_starts": "warmup_env_steps", "lr": "learning_rate",
    "log_dir": "runs", "max_steps": "total_env_steps", "n_envs": "num_envs", "n_epochs": "epochs", "n_steps": "horizon",
    "net_arch": "hidden_sizes", "output_dir": "runs", "polyak": "tau", "save_freq": "checkpoint_every_env_steps",
    "timesteps": "total_env_steps", "total_steps": "total_env_steps", "total_timesteps": "total_env_steps",
    "train_freq": "updates_per_env_step", "utd_ratio": "updates_per_env_step",
}  # fmt: skip  # what other trainers call them


def meant(key: str, known: Sequence[str]) -> list[str]:
    """The known keys behind another trainer's word: one that is called so, or all whose names end so."""
    right = OTHER_WORDS.get(key.rpartition(".")[2])
    if right is None:
        return []
    called = sorted((other for other in known if other == right or other.endswith(f".{right}")), key=len)
    return called[:1] or [other for other in known if other.endswith(f"_{right}")]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The line that refuses a key, with the nearest known one."""
    if other := meant(key, known):
        return f"unknown key {key!r}: did you mean {' or '.join(other)}?"
    near = [other for other in known if other.endswith(f".{key}")] or difflib.get_close_matches(key, known, 1, 0.5)
    if key == "algo.updates_per_env_step":
        return f"{key}: this algorithm has no such setting, its updates follow from its epochs"
    return f"unknown key {key!r}" + (f": did you mean {near[0]}?" if near else " (--help lists the keys)")


def lists(value: Any) -> Any:
    """Tuples as lists, all the way down: yaml has no tuples."""
    if isinstance(value, dict):
        return {key: lists(entry) for key, entry in value.items()}
    return [lists(entry) for entry in value] if isinstance(value, list | tuple) else value


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested tree with dotted keys: {"algo": {"gamma": 0.99}} -> {"algo.gamma": 0.99}."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": lists(value)}
    return values
