"""Trainers in processes of their own that start at once: python tests/zygote.py imports all of it and then forks.

Each line on stdin is a JSON list of words; each trainer says on stdout `pid <n>`, what the trainer says, `saved <step>`
when a save has been reported, and its end. Nothing runs in the parent but imports: there is no thread to lose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Zygote:
    """The parent, from the side of a test."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-u", __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def start(self, words: list[str]) -> int:
        """Start a trainer; its process id."""
        assert self.process.stdin is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        return int(self.line_with("pid ").split()[1])

    def line_with(self, *beginnings: str, told: list[str] | None = None) -> str:
        """The next line that begins so; those before it are put into `told`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginnings):
                return line.rstrip()
            if told is not None:
                told.append(line.rstrip())
        raise AssertionError("the parent has ended")

    def close(self) -> None:
        """End the parent."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def telling(save_step: Any) -> Any:
    """checkpoint.save_step that says when it has returned."""

    def told(root: Path, step: int, *others: Any) -> Path:
        folder: Path = save_step(root, step, *others)
        os.write(1, f"saved {step}\n".encode())
        return folder

    return told


def serve() -> None:
    """Fork a trainer for each line, one at a time."""
    import envs.engine
    from dsac import train
    from dsac.algorithms import load, names
    from dsac.callbacks import checkpointer, logger
    from dsac.evaluation import scoring
    from dsac.persistence import checkpoint
    from dsac.runs import record, session

    assert all((envs.engine, scoring, logger, checkpointer, session, [load(name) for name in names()]))
    record.revision = lambda: None  # asking git takes longer than a small run
    checkpoint.save_step = telling(checkpoint.save_step)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.write(1, f"pid {os.getpid()}\n".encode())
            os._exit(train.main(json.loads(line)))
        _, status = os.waitpid(child, 0)
        os.write(1, f"\nended {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
