"""The algorithms, one file each, and how to find one by its name or import path."""

from __future__ import annotations

import difflib
import pkgutil

from dsac.algorithms.base import Algorithm
from dsac.schema.algorithm_config import AlgorithmConfig
from envs.importing import users_module


def names() -> list[str]:
    """The algorithms that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def load(name: str) -> type[Algorithm]:
    """The algorithm class behind a name ("dsac_t") or an import path ("my_package.my_algorithm").

    Raises ValueError, naming the nearest known name, where there is none.
    """
    if "." not in name and name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names())}"
        raise ValueError(f"unknown algorithm {name!r}: {hint}")
    path = name if "." in name else f"{__name__}.{name}"
    try:
        module = users_module(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {error.name!r}: algo={name} must be importable from here") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Algorithm) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ValueError(f"{path} defines {len(found)} subclasses of Algorithm: it must define exactly one")
    if not issubclass(found[0].Config, AlgorithmConfig):
        raise ValueError(f"{path}: the Config of {found[0].__name__} must be a subclass of AlgorithmConfig")
    return found[0]
