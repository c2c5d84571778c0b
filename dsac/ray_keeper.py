"""Ends what a Ray of one process leaves behind when that is killed: some of its helpers would stay for a minute.

python -m dsac.ray_keeper pid:start ... waits until its standard input is closed, which it is however its parent ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 4.0  # for those that end by themselves


def keep() -> None:
    """Have all that this process has started by now end when it ends."""
    marks = [f"{pid}:{begun(pid)}" for pid in descendants(os.getpid())]
    command = [sys.executable, "-m", "dsac.ray_keeper", *marks]
    reading, _writing = os.pipe()  # the kernel closes the other end, nobody else
    subprocess.Popen(command, stdin=reading, start_new_session=True)  # out of reach of a Ctrl-C
    os.close(reading)


def descendants(parent: int) -> list[int]:
    """The processes that descend from one."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def begun(pid: int) -> str | None:
    """When a process began, in ticks, which tells it from a later one of that number; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def main() -> int:
    marks = [mark.split(":") for mark in sys.argv[1:]]
    sys.stdin.read()
    patience = time.monotonic() + PATIENCE_SECONDS
    while left := [int(pid) for pid, start in marks if begun(int(pid)) == start]:
        if time.monotonic() > patience:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
