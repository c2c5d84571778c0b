"""What a tuning searches: a yaml of config fields with a range or choices each, checked against the real config.

Every bound and every choice is put into the config and loaded, so that a legal space is one that a run accepts.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsac.config import GROUPS, SHORTCUTS, conf_folder, flat_keys, load, set_value, to_tree
from dsac.errors import ConfigError
from dsac.schema.recipes import read_recipe, recipe_path
from dsac.schema.run_config import RULES, SECTIONS
from dsac.schema.validate import flat, lists, plain_value, read, shown, unknown_key

# What names the task, a run, the machine or the measure: the same for all trials, or they could not be compared.
NOT_SEARCHED = ("resume", "allow_change", *(key for key, rule in RULES.items() if not rule.searched))
SECTIONS_NOT_SEARCHED = SECTIONS.keys() - {key.partition(".")[0] for key, rule in RULES.items() if rule.searched}
JOINT_DRAWS = 64


@dataclass(frozen=True)
class RangeText:
    """A range as the yaml has it."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole ones where the field is of whole numbers."""

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def word(self, value: Any) -> str:
        """A value as on the command line, exactly."""
        return str(int(value)) if self.whole else repr(float(value))

    def holds(self, value: Any) -> bool:
        """Whether a value of the field can be drawn."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    def some(self, draw: np.random.Generator) -> Any:
        """A bound, or a number between them."""
        share = draw.choice([0.0, 1.0, draw.uniform()])
        value = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        value = min(max(float(value), self.low), self.high)
        return round(value) if self.whole else value

    def __str__(self) -> str:
        step = f" in steps of {self.step:g}" if self.step and self.step != 1 else ""
        return f"{self.low:g} to {self.high:g}{', log' if self.log else step}"


@dataclass(frozen=True)
class Choices:
    """Values, as one types them."""

    words: tuple[str, ...]

    def word(self, value: Any) -> str:
        return str(value)

    def holds(self, value: Any) -> bool:
        """Whether a value of the field can be drawn."""
        return shown(lists(value)) in self.words

    def some(self, draw: np.random.Generator) -> Any:
        return plain_value(self.words[draw.integers(len(self.words))])

    def __str__(self) -> str:
        return " | ".join(self.words)


Space = dict[str, Range | Choices]


def read_space(name: str, base: Mapping[str, Any], problems: list[str]) -> Space:
    """The space behind space=<name>: a file of conf/search, or a path that ends in .yaml.

    base: the composed tree of the command's other settings. What is wrong is noted, with its key.
    """
    try:
        entries = read_recipe(recipe_path(name, conf_folder() / "search"))
    except ValueError as error:
        problems.append(f"space={name}: {error}")
        return {}
    if not entries:
        problems.append(f"space={name}: it names no field")
    try:
        load(base)
    except ConfigError:
        return {}  # reported by whoever plans the base; no value can be tried in it
    space: Space = {}
    before = len(problems)
    for key, entry in entries.items():
        own = f"algo.{key}" if key in SHORTCUTS else key
        if own in space:
            problems.append(f"space: {key} and {own} are the same field")
        elif (problem := unsearchable(own, base)) is not None:
            problems.append(f"space: {problem}")
        elif (found := dimension(own, entry, base, problems)) is not None:
            space[own] = found
    if len(problems) == before:
        problems += joint_problems(space, base)
    return space


def unsearchable(key: str, base: Mapping[str, Any]) -> str | None:
    """Why a key is not one to search, or None."""
    section, dot, name = key.partition(".")
    known = flat_keys(base)
    if key in GROUPS or (section in GROUPS and name == "name"):
        return f"{key}: choose it with {section}= on the command line; each choice has a study of its own"
    if key in NOT_SEARCHED or section in SECTIONS_NOT_SEARCHED:
        return f"{key} is the same for all trials: give it on the command line"
    if key not in known:
        return unknown_key(key, [other for other in known if other not in NOT_SEARCHED])
    if not dot and isinstance(base[key], dict):
        return f"{key} is a section: write its fields as {key}.<field>"
    return None


def dimension(key: str, entry: Any, base: Mapping[str, Any], problems: list[str]) -> Range | Choices | None:
    """What one entry of the yaml says; None where it is wrong, with the problems noted."""
    if isinstance(entry, dict) and "choices" in entry:
        if others := [name for name in entry if name != "choices"]:
            problems.append(f"space: {key} has choices and {others[0]}: give choices, or low and high")
            return None
        return choices(key, entry["choices"], base, problems)
    if not isinstance(entry, dict):
        problems.append(f"space: {key}={shown(entry)} must be {{low: ..., high: ...}} or {{choices: [...]}}")
        return None
    wrong: list[str] = []
    values = read(RangeText, entry, f"{key}.", wrong)
    problems += [f"space: {problem}" for problem in wrong]
    return None if wrong else number_range(key, RangeText(**values), base, problems)


def choices(key: str, values: Any, base: Mapping[str, Any], problems: list[str]) -> Choices | None:
    """Choices of which each is a legal value, and no two the same."""
    if not isinstance(values, list) or len(values) < 2:
        problems.append(f"space: {key}.choices={shown(values)} must be a list of two values or more")
        return None
    values = [plain_value(value) if isinstance(value, str) else value for value in values]
    found = [tried(key, value, base, problems) for value in values]
    words = tuple(shown(lists(value)) for value, _ in found)
    if len(set(words)) < len(words):
        problems.append(f"space: {key}.choices={shown(values)} names a value twice")
    return Choices(words) if all(legal for _, legal in found) and len(set(words)) == len(words) else None


def number_range(key: str, text: RangeText, base: Mapping[str, Any], problems: list[str]) -> Range | None:
    """A range whose bounds are legal values; whole where the field is."""
    (low, first), (high, second) = (tried(key, value, base, problems) for value in (text.low, text.high))
    if not (first and second):
        return None
    whole = isinstance(low, int)
    step = 1.0 if whole and text.step is None and not text.log else text.step
    wrong = []
    if not low < high:
        wrong.append(f"low={low} must be less than high={high}")
    if text.log and low <= 0:
        wrong.append(f"low={low} must be above 0 where log=true")
    if text.log and text.step is not None:
        wrong.append("log and step exclude each other")
    if step is not None and (step <= 0 or (whole and not step.is_integer())):
        wrong.append(f"step={step:g} must be a {'whole ' if whole else ''}number above 0")
    elif step is not None and low < high and abs((steps := (high - low) / step) - round(steps)) > 1e-9:
        wrong.append(f"step={step:g} does not lead from low={low} to high={high}")
    problems += [f"space: {key}: {line}" for line in wrong]
    return None if wrong else Range(low, high, step, text.log, whole)


def tried(key: str, value: Any, base: Mapping[str, Any], problems: list[str]) -> tuple[Any, bool]:
    """A value as its field has it, and whether the config takes it; the problems are noted."""
    try:
        return flat(to_tree(load(with_values(base, {key: value}))))[key], True
    except ConfigError as error:
        problems += [f"space: {problem}" for problem in error.problems]
        return value, False


def with_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a composed tree with some fields set."""
    tree = copy.deepcopy(dict(base))
    for key, value in values.items():
        if key.removeprefix("algo.") in SHORTCUTS:
            tree[key.removeprefix("algo.")] = None  # the shortcut would win over the field
        set_value(tree, key, value)
    return tree


def joint_problems(space: Space, base: Mapping[str, Any]) -> Sequence[str]:
    """What some values are together that none is alone, such as a minibatch that does not divide its block."""
    draw = np.random.default_rng(0)
    for values in joint_values(space, draw):
        try:
            load(with_values(base, values))
        except ConfigError as error:
            words = " ".join(f"{key}={shown(lists(value))}" for key, value in values.items())
            return [f"space: {problem} (with {words})" for problem in error.problems]
    return []


def joint_values(space: Space, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Points of the space, many of them at its corners."""
    for _ in range(JOINT_DRAWS if space else 0):
        yield {key: part.some(draw) for key, part in space.items()}


def described(space: Space) -> dict[str, Any]:
    """A space as plain data, to be compared with that of an earlier command."""
    return {key: lists(dataclasses.asdict(part)) for key, part in space.items()}
