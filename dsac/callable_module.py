"""Modules that can be called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(name: str, function: Callable[..., Any]) -> None:
    """Let the imported module `name` be called as `function`.

    `dsac.train` is a function of the library and the module behind `python -m dsac.train`, and importing a submodule
    binds it in the package, over a function of that name. As one object, both mean the same in any order of imports.
    """
    sys.modules[name].__class__ = type("CallableModule", (ModuleType,), {"__call__": staticmethod(function)})
