"""Where a run hangs or dies: every thread's stack, written to a file by code that needs no interpreter."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import sys
import time
from pathlib import Path
from typing import Any

from dsac.schema import files


class Watchdog:
    """Writes stacks to `path` when the process dies of a fault, and whenever it was not called for `seconds`."""

    def __init__(self, path: Path, seconds: int) -> None:
        self.path, self.seconds = path, seconds
        self.file = files.append(path)
        self.was_enabled = faulthandler.is_enabled()
        self.called = -float("inf")
        faulthandler.enable(self.file)
        self()

    def __call__(self, _trainer: Any = None) -> None:
        """Something moved: to be called after every block, cheap enough for every step."""
        now = time.monotonic()
        if now - self.called > self.seconds / 10:
            self.called = now
            faulthandler.dump_traceback_later(self.seconds, repeat=True, file=self.file)

    def write(self) -> str:
        """Write the stacks as they are now; where they lie, in words."""
        with contextlib.suppress(OSError, ValueError):
            faulthandler.dump_traceback(self.file)
            return f"; where it hung is in {self.path}"
        return ""

    def close(self) -> None:
        """Look away; a file in which nothing was written goes."""
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        if self.was_enabled and sys.__stderr__ is not None:
            with contextlib.suppress(io.UnsupportedOperation, ValueError):
                faulthandler.enable(sys.__stderr__)
        self.file.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_size == 0:
                self.path.unlink()
