"""How much there is to read for who follows one iteration of DSAC-T, counted from what runs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from dsac.config import compose, load
from dsac.runs import hardware
from dsac.runs.parts import build

PACKAGE = Path(__file__).parent.parent / "dsac"
MOST_LINES = 1_550
WORDS = (
    "env=Humanoid algo=dsac_t device=cpu accelerate=eager threads=1 algo.num_envs=2 algo.warmup_env_steps=8 "
    "algo.batch_size=8 algo.replay_capacity=100 updates_per_env_step=1"
)


def files_run(function: Callable[[], Any]) -> list[Path]:
    """The files of the package in which something ran while `function` was called.

    A function that was called counts, compiled kernels included, and a record (a NamedTuple) of which one was made.
    """
    files = set()

    def note(frame: FrameType, _event: str, _argument: Any) -> None:
        files.add(frame.f_code.co_filename)
        if str(frame.f_globals.get("__name__")).startswith("namedtuple_"):
            files.add(inspect.getfile(frame.f_locals["_cls"]))

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return sorted(path for path in map(Path, files) if path.is_relative_to(PACKAGE))


def test_one_iteration_of_dsac_t_is_short_to_read():
    """Catches code that one iteration does not need - compilation, GPU copies, policy files, sizes - back in its files.

    Counted are whole files, with blank lines, docstrings and what only the start-up uses, for the default command on
    the CPU: the loop, the collector, the replay, the update and its statistics. Callbacks (curves, saves, checks) run
    beside it; the simulator has a contract of its own, envs/contract.py. Both are not counted.
    """
    trainer = build(hardware.resolve_hardware(load(compose(WORDS.split())))[0])
    while trainer.warmup_env_steps < trainer.algorithm.warmup_env_steps:
        trainer.collect_block(trainer.algorithm.warmup_act, learning=False)
    files = files_run(lambda: trainer.collect_block(trainer.act, learning=True))
    assert trainer.updates == 2
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in files}
    for name, count in lines.items():
        print(f"{count:6,} {name}")
    total = sum(lines.values())
    print(f"{total:6,} lines in {len(lines)} files")
    known = {"trainer.py", "data.py", "collection/collector.py", "memory/kernels.py", "algorithms/dsac_t.py"}
    assert known <= lines.keys()
    assert total <= MOST_LINES
