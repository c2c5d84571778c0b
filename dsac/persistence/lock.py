"""One process a run: a lock that the kernel holds and lets go with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from dsac.errors import Locked
from dsac.schema import files

LONGEST_NAME = 100  # bytes of a holder's name


class RunLock:
    """Holds <run>/lock for as long as it is open. Raises Locked, OSError where the folder cannot be written."""

    def __init__(self, run: Path) -> None:
        self.file = files.append(run / "lock")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            holder = self.file.read(LONGEST_NAME).decode(errors="replace").strip() or "another process"
            self.file.close()
            raise Locked(f"{run} is in training: {holder} has it; wait for its end, or stop it") from None
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())

    def close(self) -> None:
        """Let the run go."""
        self.file.close()
