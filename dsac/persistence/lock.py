"""One process a folder: a lock that the kernel holds and lets go with the process, however it ends.

The library filelock would serve but for three things: it stops at a link or a pipe in the lock's place, which a folder
from elsewhere may hold, it names no holder, and where a disk has no locks it leaves one that outlives a killed process.
"""

from __future__ import annotations

import fcntl
import os
import time
from io import FileIO
from pathlib import Path

from dsac.errors import Locked
from dsac.schema import files

LONGEST_NAME = 100  # bytes of a holder's name
POLL_SECONDS = 0.05
NAME = "lock"
LOCKS = Path("/proc/locks")


class RunLock:
    """Holds <folder>/lock until it is closed.

    Raises Locked where another process has it and keeps it for `seconds`, OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.file = files.append(folder / NAME)
        deadline = time.monotonic() + seconds
        while not locked(self.file):
            if time.monotonic() >= deadline:
                self.file.seek(0)
                holder = self.file.read(LONGEST_NAME).decode(errors="replace").strip() or "another process"
                self.file.close()
                raise Locked(f"{folder} is in use: {holder} has it; wait for its end, or stop it")
            time.sleep(POLL_SECONDS)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())

    def close(self) -> None:
        """Let the folder go."""
        self.file.close()


def locked(file: FileIO) -> bool:
    """Whether this process now has the lock of an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def held_elsewhere(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    if not files.mode_of(folder / NAME):
        return False
    with files.append(folder / NAME) as file:
        return not locked(file)


def locks_held() -> frozenset[str]:
    """The files that processes of this machine have locked, "major:minor:inode" in hex, hex and digits.

    As the kernel tells it, for all at once: whoever asked by locking would be in the way of a run that begins. Empty
    where it does not tell: not on Linux, and from within another container.
    """
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return frozenset()
    rows = [line.split() for line in lines]
    return frozenset(row[5] for row in rows if len(row) > 5 and row[1:4] == ["FLOCK", "ADVISORY", "WRITE"])
