"""Which tests belong to which loop: `slow` is set here and nowhere else, and follows from what a test calls.

A test is slow that trains a run or starts a process, itself or through a helper or a fixture, and one of HEAVY.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

TESTS = Path(__file__).parent
LEAST_SHARE = 2 / 3  # of the test functions that must be fast

SLOW_CALLS = {"subprocess", "small_runs.train", "zygote.Zygote", "damage_server.Server"}
SLOW_FIXTURES = {"finished_runs", "stopped"}  # runs that conftest.py trains
HEAVY: set[str] = set()  # files, and tests of others, that take seconds without either

# Files that must not run at the same time, by what they share; each other file is a group of its own.
GROUPS = {"one Ray": ("test_ray", "test_ray_nodes", "test_remote_collector")}


def group(item: Any) -> str:
    """Which tests one worker runs in a row."""
    return next((name for name, files in GROUPS.items() if item.path.stem in files), item.path.stem)


def slow(item: Any) -> bool:
    """Whether a test trains, starts a process or takes long for another reason."""
    if {item.path.stem, getattr(item, "originalname", item.name)} & HEAVY or {*item.fixturenames} & SLOW_FIXTURES:
        return True
    seen: set[FunctionType] = set()
    functions = [item.function, *(getattr(item.module, name, None) for name in item.fixturenames)]
    return any(used in SLOW_CALLS for function in functions for used in calls(function, seen))


def calls(function: Any, seen: set[FunctionType]) -> Iterator[str]:
    """The full names of what a function of the tests uses, and of what its helpers in this folder use."""
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or function in seen:
        return
    seen.add(function)
    for name in names(function.__code__):
        used = function.__globals__.get(name)
        if isinstance(used, ModuleType):
            yield used.__name__
        elif isinstance(used, FunctionType | type):
            yield f"{used.__module__}.{used.__qualname__}"
            if here(used):
                for inner in vars(used).values() if isinstance(used, type) else (used,):
                    yield from calls(inner, seen)


def names(code: CodeType) -> Iterator[str]:
    """The names that a function's code and the functions within it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)


def here(used: Any) -> bool:
    """Whether a function or a class was written in this folder."""
    file = getattr(sys.modules.get(used.__module__), "__file__", None)
    return file is not None and Path(file).parent == TESTS
