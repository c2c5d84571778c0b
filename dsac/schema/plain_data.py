"""Text that may come from anyone, as plain data: JSON and yaml without anything that runs, unfolds or overflows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

MOST_DIGITS = 40  # of a whole number; a float takes any such
MOST_NODES, MOST_LEVELS = 20_000, 32  # of a yaml tree, its aliases written out
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


def parse_json(text: str, finite: bool = True) -> Any:
    """JSON as plain data; finite=False also takes NaN and Infinity.

    Raises ValueError, also for deep nesting, a key that comes twice and numbers of too many digits.
    """
    try:
        found = json.loads(
            text,
            object_pairs_hook=without_repeats,
            parse_int=whole_number,
            parse_float=finite_number if finite else None,
            parse_constant=refuse_constant if finite else None,
        )
        if "\\ud" in text.lower():  # half a pair could not be printed
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return found


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises ValueError for a key that comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {repeated[:80]!r} comes twice")
    return found


def whole_number(text: str) -> int:
    """Digits as a number. Raises ValueError for too many."""
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of more than {MOST_DIGITS} digits")
    return int(text)


def finite_number(text: str) -> float:
    """A number with a point or an exponent. Raises ValueError for 1e999."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:MOST_DIGITS]} is too large a number")
    return value


def refuse_constant(text: str) -> Any:
    """Raise ValueError for NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{text} is no number of JSON")


class PlainLoader(yaml.SafeLoader):
    """Scalars, lists and mappings with keys of text; dates stay text, and tags are refused."""

    level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises ValueError where it lies too deep or has a tag."""
        untyped: Any = self
        event, self.level = untyped.peek_event(), self.level + 1
        if self.level > MOST_LEVELS:
            raise ValueError(f"nested too deep, line {event.start_mark.line + 1}")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"{event.tag[:80]!r} is no plain data, line {event.start_mark.line + 1}")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.level -= 1
        return node


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag in PLAIN_TAGS]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str) -> Any:
    """One yaml document as plain data.

    Raises ValueError, also for deep nesting, aliases that unfold to more than a config holds, a key that comes twice
    or is no text, and numbers of too many digits.
    """
    try:
        loader = PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        refuse_odd_nodes(node, iter(range(MOST_NODES)))
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(shortened(error)) from None


def refuse_odd_nodes(node: yaml.Node, left: Iterator[int], level: int = 0) -> None:
    """Raise ValueError for a node that is no plain data, or holds one; `left` counts down over the whole tree."""
    line = f"line {node.start_mark.line + 1}"
    if level > MOST_LEVELS or next(left, None) is None:
        raise ValueError(f"more than {MOST_NODES:,} entries, aliases written out, {line}")
    if isinstance(node, yaml.MappingNode):
        keys = [key.value if key.tag.endswith(":str") else None for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError(f"a key is no text, {line}")
        if len(set(keys)) < len(keys):
            raise ValueError(f"a key comes twice, {line}")
        for _, value in node.value:
            refuse_odd_nodes(value, left, level + 1)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            refuse_odd_nodes(value, left, level + 1)
    elif node.tag.endswith((":int", ":float")) and len(node.value) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits, {line}")
    else:
        node.value.encode()  # half a surrogate pair could not be printed


def shortened(error: yaml.YAMLError) -> str:
    """The first line of what yaml says, and where."""
    said = getattr(error, "problem", None) or str(error).partition("\n")[0]
    mark = getattr(error, "problem_mark", None)
    said = re.sub(r"\s+", " ", said)[:200]
    return said if mark is None else f"{said}, line {mark.line + 1}"


def misfit(value: Any, form: Any, name: str = "") -> str | None:
    """What is wrong with plain data, by its dotted name; None where it is of a form.

    A form is a type, a tuple of forms of which one fits, a list with the form of every entry, or a dict of forms by
    key, beside which there may be others: "key?" may be missing, and `str` stands for every key. int is a whole number
    from 0 to 2^63, float any number, a bool neither.
    """
    prefix = f"{name}." if name else ""
    if isinstance(form, tuple):
        return None if any(misfit(value, one) is None for one in form) else f"{name} is of a wrong type"
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        found = (misfit(entry, form[0], f"{prefix}{index}") for index, entry in enumerate(value))
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{name} is no section of keys"
        if missing := [key for key in form if isinstance(key, str) and key[-1] != "?" and key not in value]:
            return f"{prefix}{missing[0]} is missing"
        known = {key.removesuffix("?"): inner for key, inner in form.items() if isinstance(key, str)}
        known |= dict.fromkeys(value, form[str]) if str in form else {}
        found = (misfit(value[key], inner, f"{prefix}{key}") for key, inner in known.items() if key in value)
    else:
        return None if of_type(value, form) else f"{name} is of a wrong type"
    return next((line for line in found if line), None)


def of_type(value: Any, kind: Any) -> bool:
    """Whether a leaf is of a type, in the sense of `misfit`."""
    if kind is None or value is None:
        return kind is value
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if isinstance(value, int) and abs(value) >= 2**63:
        return False
    if kind is int:
        return isinstance(value, int) and value >= 0
    return isinstance(value, int | float if kind is float else kind)


def array_misfit(found: Any, expected: Mapping[str, Any]) -> str | None:
    """The first array that differs in name, shape or type from its tensor, in words; None where all fit."""
    if not isinstance(found, dict):
        return "it holds no arrays"
    for name in sorted(expected.keys() | found.keys(), key=str):
        forms = [form_of(one[name]) if name in one else "missing" for one in (found, expected)]
        if forms[0] != forms[1]:
            return f"{name} is {forms[0]}, expected {forms[1]}"
    return None


def form_of(array: Any) -> str:
    """Shape and type of an array or a tensor."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        return f"a {type(array).__name__}"
    return f"{tuple(array.shape)} {str(array.dtype).removeprefix('torch.')}"
