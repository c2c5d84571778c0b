"""Modules that can be called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(name: str, function: Callable[..., Any]) -> None:
    """Let the imported module `name` be called as `function`.

    `dsac.train` is a function of the library and the module behind `python -m dsac.train`, and importing a submodule
    binds it in the package, over a function of that name. As one object, both mean the same in any order of imports.
    """
    sys.modules[name].__class__ = type("CallableModule", (ModuleType,), {"__call__": staticmethod(function)})


def hand_on(package: str, function: str | None = None) -> Callable[[str], Any]:
    """The `__getattr__` of a tool's package: `main`, and the `function` as which the package itself can be called.

    Both are in its module `command`, which is imported when one of them is first asked for: whoever imports another
    module of the package does not wait for it.
    """

    def attribute(name: str) -> Any:
        if name not in ("main", function):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.command"), name)

    def call(*values: Any, **settings: Any) -> Any:
        return attribute(str(function))(*values, **settings)

    if function:
        make_callable(package, call)
    return attribute
