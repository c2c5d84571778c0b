"""The one place that imports a module by a name that a user gave: an algorithm, a task file, a Gymnasium registration.

A name may only come here once it was typed; dsac.schema.importing decides that for names that stand in files.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def users_module(name: str) -> ModuleType:
    """The module behind a dotted name. Raises ModuleNotFoundError where there is none, and what importing it raises."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModuleNotFoundError(f"{name!r} is not the name of a module", name=name)
    return import_module(name)
