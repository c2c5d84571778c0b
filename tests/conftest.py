"""What every test file shares: signals as on a terminal, the marker of the slow tests, and runs trained once."""

from __future__ import annotations

import collections
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loops
import pytest

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, or in the background of a script
        signal.signal(number, usual)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: xdist has a process for each core
FAST = pytest.StashKey[tuple[int, int]]()


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Mark the slow tests, count the functions that have a fast case, and share the files out among xdist's workers."""
    slow, fast = dict[str, bool](), set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        if function not in slow:
            slow[function] = loops.slow(item)
        if slow[function]:
            item.add_marker("slow")
        elif not item.get_closest_marker("faults"):
            fast.add(function)
    config.stash[FAST] = len(fast), len(slow)
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(loops.group(item)))
        sizes = collections.Counter(loops.group(item) for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: (loops.turn(loops.group(item)), -sizes[loops.group(item)]))


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """The share of the fast tests, in the first lines of every run."""
    fast, functions = config.stash[FAST]
    return f"{fast} of {functions} test functions are fast (make test-fast)"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Each test begins with one thread, whatever an earlier one in this process has chosen for a run."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def compiler() -> None:
    """Skips where torch has no C++ compiler; asked for by the first test that needs one, since it takes a second."""
    from dsac.runs import hardware

    if missing := hardware.missing_compiler("cpu"):
        pytest.skip(missing)


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small run of an algorithm, trained once a session: to look at and to copy, not to change."""
    from small_runs import small_config, train_whole

    return functools.cache(lambda algo: train_whole(small_config(tmp_path_factory.mktemp(f"finished-{algo}"), algo)))


@pytest.fixture(scope="session")
def finished(finished_runs: Callable[[str], Path]) -> Path:
    """The small run of DSAC-T, to look at and to copy, not to change."""
    return finished_runs("dsac_t")


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run of DSAC-T, stopped half-way: to copy, not to change."""
    from small_runs import only_run, small_config, stop_at, train

    from dsac.cli import exit_codes

    runs = tmp_path_factory.mktemp("stopped")
    assert train(small_config(runs), None, [stop_at(130)]) == exit_codes.RESUMABLE
    return only_run(runs)


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A run of the test's own that was stopped half-way, to continue or to damage."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))
