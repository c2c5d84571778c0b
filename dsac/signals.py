"""Signals that end a run in good order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsac.trainer import Trainer

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedEarly(KeyboardInterrupt):
    """A signal came while there was nothing to save yet; named by its message."""


class Stopping:
    """What Ctrl-C, SIGTERM and SIGHUP do: end a start-up at once, a training after the present block.

    A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.asked: str | None = None

    def handle(self, number: int, _frame: Any) -> None:
        """The handler of the signals."""
        name, first = signal.Signals(number).name, self.asked is None
        self.asked = self.asked or name
        if self.trainer is None:
            raise StoppedEarly(name)
        if not first:
            os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the bar had hidden the cursor
            os._exit(128 + number)
        self.trainer.stop(name)
        os.write(2, b"\nstopping: saving after this block; once more to quit at once\n")

    def attend(self, trainer: Trainer) -> None:
        """From here on there is something to save."""
        self.trainer = trainer
        if self.asked:  # it was raised where Python ignores exceptions
            trainer.stop(self.asked)


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[Stopping]:
    """Handle the signals within this block; in a thread other than the main one they are not Python's to handle."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {number: signal.signal(number, stopping.handle) for number in NUMBERS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
