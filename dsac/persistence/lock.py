"""One process a folder: a lock that the kernel holds and lets go with the process, however it ends.

The library filelock would serve but for three things: it stops at a link or a pipe in the lock's place, which a folder
from elsewhere may hold, it names no holder, and where a disk has no locks it leaves one that outlives a killed process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dsac.errors import Locked
from dsac.schema import files
from envs.system import lock_file

LONGEST_NAME = 100  # bytes of a holder's name
POLL_SECONDS = 0.05
NAME = "lock"


class RunLock:
    """Holds <folder>/lock until it is closed.

    Raises Locked where another process has it and keeps it for `seconds`, OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.file = files.append(folder / NAME)
        deadline = time.monotonic() + seconds
        while not lock_file(self.file):
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


def held_elsewhere(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    if not files.mode_of(folder / NAME):
        return False
    with files.append(folder / NAME) as file:
        return not lock_file(file)
