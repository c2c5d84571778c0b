"""One run of a sweep, in a process of its own: found and continued where it was begun, started where it was not."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.exit_codes import FINISHED, RESUMABLE, with_exit_code
from dsac.config import compose, load, to_tree
from dsac.runs.resume import FREE
from dsac.schema.importing import modules_named
from dsac.train import start

if TYPE_CHECKING:
    from dsac.trainer import Trainer

WRITE_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


class Reporter:
    """A task that keeps a file of where the run is, for whoever watches.

    Rates are those since this session began to learn, evaluations included.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0.0
        self.since: tuple[float, int, int] | None = None
        self.write({})

    def __call__(self, trainer: Trainer) -> None:
        now = time.monotonic()
        if self.since is None and trainer.env_steps > 0:
            self.since = (now, trainer.env_steps, trainer.updates)
        if now - self.written < WRITE_SECONDS and not trainer.finished:
            return
        self.written = now
        since, steps, updates = self.since or (now, trainer.env_steps, trainer.updates)
        seconds = max(now - since, 1e-9)
        self.write(
            {
                "env_steps": trainer.env_steps,
                "scores": list(trainer.scores),
                "env_steps_per_second": (trainer.env_steps - steps) / seconds,
                "updates_per_second": (trainer.updates - updates) / seconds,
            }
        )

    def write(self, numbers: dict[str, object]) -> None:
        """Replace the file, if the disk takes it: readers see the old one or the new one."""
        temporary = self.path.with_name(f".{self.path.name}.partial")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(numbers))
            temporary.replace(self.path)


def work(folder: Path, words: Sequence[str]) -> int:
    """Carry out the run that `words` describe, holding the lock in `folder`; the exit code of its session.

    RESUMABLE at once where another process holds the lock.
    """
    from dsac.sweep.find_runs import find, held

    config = load(compose(words))
    with held(folder) as ours:
        if not ours:
            print("another process trains this run", file=sys.stderr)
            return RESUMABLE
        found = find(config)
        if found.finished:
            return FINISHED
        if found.run is not None:
            named = [f"{key}={value}" for key, value in modules_named(to_tree(config)).items()]
            free = [word for word in words if word.partition("=")[0] in FREE]
            words = [f"resume={found.run}", *named, *free]
        return start(words, [Reporter(folder / "status.json")]).exit_code


def end_with(parent: int) -> None:
    """Have this process stopped as by SIGTERM, which saves, when the sweep that started it is no more; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(RESUMABLE)


def main() -> int:
    """The process that a sweep starts: its own id, the folder for lock and status, the words of the run."""
    parent, folder, *words = sys.argv[1:]
    end_with(int(parent))
    return with_exit_code(lambda: work(Path(folder), words))


if __name__ == "__main__":
    raise SystemExit(main())
