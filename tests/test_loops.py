"""The loop to type beside holds most tests, and none of them trains or starts a process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loops
import pytest
import torch
from conftest import FAST
from small_runs import small_words, train_whole

from dsac.train import main


def test_most_tests_are_fast(request: pytest.FixtureRequest):
    """Catches a slow loop that grows until nobody waits for any other."""
    fast, functions = request.config.stash[FAST]
    if functions < 500:
        pytest.skip("only a part of the tests was collected")
    assert fast / functions >= loops.LEAST_SHARE


def test_every_heavy_test_exists():
    """Catches a name in the table that is an old one: its test would be fast, and nobody would notice."""
    files = {path.stem: path.read_text() for path in loops.TESTS.glob("test_*.py")}
    sources = "\n".join(files.values())
    assert not {name for name in loops.HEAVY if name not in files and f"def {name}(" not in sources}
    assert {file for group in loops.GROUPS.values() for file in group} <= files.keys()
    assert {*loops.LONGEST} <= files.keys() | loops.GROUPS.keys()


@pytest.mark.parametrize("time", ["once", "again"])
def test_no_test_inherits_the_threads_of_another(time: str):
    """Catches a run's choice of threads that lasts: two threads make an update of a small network slower."""
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)


def start() -> None:
    subprocess.run(["true"], check=True)


class Starter:
    def call(self) -> None:
        start()


def outer() -> None:
    def inner() -> None:
        start()

    inner()


def test_a_test_is_slow_for_what_its_helpers_do():
    """Catches a rule that looks at a test's own lines only: not at a helper, a class, an inner function, a fixture."""
    for function in (
        start,
        outer,
        lambda: Starter().call(),
        lambda: train_whole(None),
        lambda: main(small_words(None)),
    ):
        assert slow(function)
    for fixture in ("start", "stopped"):
        assert slow(lambda: None, fixture)
    assert not slow(lambda: main(["seed=x"]))


def slow(function: Callable[[], Any], *fixtures: str) -> bool:
    """What the rule says of a test that is this function and asks for fixtures by these names."""
    own = {"name": "test_x", "path": Path("test_x.py"), "module": SimpleNamespace(start=start)}
    return loops.slow(SimpleNamespace(**own, function=function, fixturenames=list(fixtures)))
