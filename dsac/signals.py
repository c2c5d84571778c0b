"""Signals that end a run in good order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from dsac.trainer import Trainer


@contextlib.contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP save and stop after the present block; a second one ends the process at once."""

    def handle(number: int, _frame: Any) -> None:
        if trainer.stop_reason:
            os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the bar had hidden the cursor
            os._exit(128 + number)
        trainer.stop(signal.Signals(number).name)
        os.write(2, b"\nstopping: saving after this block; once more to quit at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
