"""One run of a sweep, in a process of its own: found and continued where it was begun, started where it was not."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.exit_codes import FINISHED, RESUMABLE, with_exit_code
from dsac.config import compose, load, to_tree
from dsac.errors import Locked
from dsac.persistence.lock import RunLock
from dsac.runs.resume import FREE
from dsac.schema import files
from dsac.schema.importing import modules_named
from dsac.schema.overrides import by_key
from dsac.train import start
from envs.system import end_with_parent

if TYPE_CHECKING:
    from dsac.trainer import Trainer

WRITE_SECONDS = 1.0
LOCK_SECONDS = 2.0  # whoever asks whether a lock is held has it for a moment


class Reporter:
    """A callback that keeps a file of where the run is, for the sweep that shows it.

    Rates are those since learning began after the run was started or resumed, evaluations included.
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
        temporary = files.temp_path(self.path, "partial")
        with contextlib.suppress(OSError):
            with os.fdopen(files.create(temporary), "w") as file:
                json.dump(numbers, file)
            temporary.replace(self.path)


def work(folder: Path, overrides: Sequence[str]) -> int:
    """Carry out the run that `overrides` describe, holding the lock in `folder`; the exit code of its session.

    RESUMABLE at once where another process holds the lock.
    """
    from dsac.sweep.find_runs import STATUS, find

    config = load(compose(overrides))
    files.make_own_folder(folder)
    try:
        lock = RunLock(folder, LOCK_SECONDS)
    except Locked as error:
        print(error, file=sys.stderr)
        return RESUMABLE
    with contextlib.closing(lock):
        found = find(config)
        if found.finished:
            return FINISHED
        if found.run is not None:
            named = [f"{key}={value}" for key, value in modules_named(to_tree(config)).items()]
            free = [f"{key}={value}" for key, value in by_key(overrides).items() if key in FREE]
            overrides = [f"resume={found.run}", *named, *free]
        return start(overrides, [Reporter(folder / STATUS)]).exit_code


def end_with(parent: int) -> None:
    """Have this process stopped as by SIGTERM, which saves, when the sweep that started it is no more."""
    end_with_parent(parent)
    if os.getppid() != parent:
        sys.exit(RESUMABLE)


def main() -> int:
    """The process that a sweep starts: its own id, the folder for lock and status, the run's overrides."""
    parent, folder, *overrides = sys.argv[1:]
    end_with(int(parent))
    return with_exit_code(lambda: work(Path(folder), overrides))


if __name__ == "__main__":
    raise SystemExit(main())
