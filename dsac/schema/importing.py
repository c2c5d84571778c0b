"""Code of a user's own that a config names, and the one decision whether it may be brought in: only if typed now.

A tree from a file (config.yaml, the manifest of a checkpoint, a recipe, the record of a study) is data. Whoever reads
one asks `refusals` before anything that it names is looked for, be it only to compare two trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

USES = ("algo", "env", "ray")
NAMES = {"algo": ("name",), "env": ("name", "id", "task")}
OF_ENV = ("env.id", "env.task", "env.wrappers", "env.kwargs")  # the overrides that may name code of an env
PLAIN = re.compile(r"[\w.:/+-]+")
IMPORT_PATH = re.compile(r"[\w.]+:[\w.]+")
OWN_RAY = ("local", "auto")  # a cluster of this user's own; what another one answers is unpickled, which runs it


def modules_named(tree: Mapping[str, Any], uses: Sequence[str] = USES) -> dict[str, str]:
    """The overrides that name what brings in code of the user's own: modules, and the cluster that a run joins."""
    algo, env, ray = (section(tree, name) for name in USES)
    names = {"algo": algo.get("name"), "env.id": env.get("id"), "env.task": env.get("task")}
    marks = {"algo": ".", "env.id": ":", "env.task": ""}
    found = {key: str(value) for key, value in names.items() if value is not None and marks[key] in str(value)}
    if wrappers := env.get("wrappers"):
        found["env.wrappers"] = ",".join(map(str, wrappers if isinstance(wrappers, list | tuple) else [wrappers]))
    found |= {key: text for key, text in texts(env.get("kwargs"), "env.kwargs") if ":" in text}  # gym.make imports it
    if tree.get("collect") == "ray" and ray.get("address", OWN_RAY[0]) not in OWN_RAY:
        found["ray.address"] = str(ray["address"])
    return {key: value for key, value in found.items() if key.partition(".")[0] in uses}


def refusals(
    tree: Mapping[str, Any], typed: Mapping[str, str], who: str = "this run", uses: Sequence[str] = USES
) -> list[str]:
    """A line for each name in a tree from a file that is no name, or that brings in code and is not among the
    overrides `typed`. Nothing is imported to find out.
    """
    wrong = [
        f"{group}.{key}={value!r} is not a name"
        for group, keys in NAMES.items()
        for key in keys
        if (value := section(tree, group).get(key)) is not None
        and not (isinstance(value, str) and PLAIN.fullmatch(value))
    ]
    wrappers = section(tree, "env").get("wrappers") or []
    if not isinstance(wrappers, list | tuple) or not all(IMPORT_PATH.fullmatch(str(path)) for path in wrappers):
        wrong.append(f"env.wrappers={wrappers!r} is no list of import paths: [module:Class]")
    missing = modules_named(tree, uses)
    cluster = missing.pop("ray.address", None)
    lines = [
        f"{who} imports a module of your own: name it again, {key}={value}"
        for key, value in missing.items()
        if bare(typed.get(key, "")) != bare(value)
    ]
    if cluster is not None and "ray.address" not in typed:  # another one may be typed, which takes its place
        lines.append(f"{who} joins a Ray cluster: name it again, ray.address={cluster}")
    return wrong or lines


def section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a tree, empty where it is none."""
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}


def texts(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    """The texts in plain data with the dotted keys that they stand behind."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from texts(value, f"{path}.{key}")
    elif isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, list | tuple) and any(isinstance(value, str) for value in tree):
        yield path, f"[{','.join(map(str, tree))}]"


def bare(text: str) -> str:
    """A value as it was typed, without what only holds a list together: m:A for ['m:A']."""
    return re.sub(r"[\[\]'\"\s]", "", text)
