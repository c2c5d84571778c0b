"""Recipes: conf/experiment/<name>.yaml, or any yaml in the form of a run's config.yaml with keys left out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsac.errors import FileError
from dsac.schema.files import read_yaml
from dsac.schema.validate import plain_value

CHOSEN = ("algorithms", "environments")  # sections of which a run takes one part each


def recipe_path(name: str, folder: Path) -> Path:
    """The file behind experiment=<name>: a name below `folder`, or a path that ends in .yaml. Raises ValueError."""
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if path.is_file():
        return path
    if name.endswith(".yaml"):
        raise ValueError("no such file")
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    near = difflib.get_close_matches(name, known, 1)
    if near:
        raise ValueError(f"did you mean {near[0]}?")
    raise ValueError(f"known are {', '.join(known)}" if known else f"there is none in {folder}; or give a path, x.yaml")


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe as a tree of sections. Raises ValueError for what is no such file."""
    try:
        tree = read_yaml(path, links=True)
    except FileError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
    if not isinstance(tree, dict):
        raise ValueError("it holds no settings")
    for key in CHOSEN:
        named = tree.get(key, {})
        if not isinstance(named, dict) or not all(isinstance(section, dict) for section in named.values()):
            raise ValueError(f"{key} must name sections of keys")
    return {str(key): plain_leaves(value) for key, value in tree.items()}


def plain_leaves(tree: Any) -> Any:
    """3e-4 is text in yaml's rules; here it is the number that it is on the command line."""
    if isinstance(tree, dict):
        return {str(key): plain_leaves(value) for key, value in tree.items()}
    return plain_value(tree) if isinstance(tree, str) else tree


def merge(tree: dict[str, Any], recipe: Mapping[str, Any]) -> None:
    """Set in `tree` what the recipe says; a section takes its keys one by one and keeps its own name.

    Of the section `algorithms` it takes what stands there for the tree's algorithm, into the section `algo`, and for
    these algorithms what stands in `environments` for the tree's task.
    """
    own = recipe.get("algorithms", {}).get(tree["algo"]["name"])
    here = {} if own is None else recipe.get("environments", {}).get(tree["env"]["name"], {})
    for key, value in [("algo", {**(own or {}), **here}), *recipe.items()]:
        if key in CHOSEN:
            continue
        section = tree.get(key)
        if isinstance(section, dict) and isinstance(value, dict):
            tree[key] = section | {name: entry for name, entry in value.items() if name != "name"}
        else:
            tree[key] = value
