"""Signals that end a run in good order, and what ends one that does not come to it."""

from __future__ import annotations

import contextlib
import math
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BLOCK_SECONDS = 5.0  # what the rest of a block may take after a signal, without a sign that it moves
LONG_SECONDS = 30.0  # so may a start-up, a compilation, the callbacks or the end
TWICE_SECONDS = 1.0  # within which a second signal ends even what hears none
LOOK_SECONDS = 0.1


class Stoppable(Protocol):
    """What the signals need of a trainer.

    patience  seconds within which it moves, if it does not hang
    """

    patience: float

    def stop(self, reason: str) -> None: ...
    def signs(self) -> tuple[Any, ...]: ...


class StoppedEarly(KeyboardInterrupt):
    """A signal came while there was nothing to save yet; named by its message."""


class Stopping:
    """What Ctrl-C, SIGTERM and SIGHUP do: end a start-up at once, a training after the present block.

    A second signal ends the process at once. So does a thread, where nothing moves for the trainer's `patience`: an
    environment that hangs never comes back to the loop, and where it hangs in C, Python's handlers are not called.
    last_words: called before that, to say where it hangs
    """

    def __init__(self) -> None:
        self.trainer: Stoppable | None = None
        self.asked: str | None = None
        self.last_words: Callable[[], str] = lambda: ""

    def handle(self, number: int, _frame: Any) -> None:
        """The handler of the signals."""
        name, first = signal.Signals(number).name, self.asked is None
        self.asked = self.asked or name
        if self.trainer is None:
            raise StoppedEarly(name)
        if not first:
            leave(number)
        self.trainer.stop(name)
        os.write(2, b"\nstopping: saving after this block; once more to quit at once\n")

    def attend(self, trainer: Stoppable) -> None:
        """From here on there is something to save."""
        self.trainer = trainer
        if self.asked:  # it was raised where Python ignores exceptions
            trainer.stop(self.asked)

    def watch(self, pipe: int) -> None:
        """In a thread of its own: the kernel puts each signal's number into the pipe; a 0 ends the watch."""
        while (number := os.read(pipe, 1)[0]) not in NUMBERS:
            if number == 0:
                return
        os.set_blocking(pipe, False)
        moved, seen, twice = time.monotonic(), self.signs(), math.inf
        while True:
            with contextlib.suppress(BlockingIOError):
                if 0 in (more := os.read(pipe, 64)):
                    return
                if any(one in NUMBERS for one in more) and self.trainer:
                    twice = min(twice, time.monotonic())
            now, signs = time.monotonic(), self.signs()
            if len(signs) != len(seen) or any(map(operator.is_not, signs, seen)):
                moved, seen = now, signs
            patience = self.patience()
            if now - twice > TWICE_SECONDS or now - moved > patience:
                self.give_up(number, min(patience, now - moved))
            time.sleep(LOOK_SECONDS)

    def signs(self) -> tuple[Any, ...]:
        """Objects of which one is another once something has moved."""
        return (None,) if self.trainer is None else self.trainer.signs()

    def patience(self) -> float:
        """Seconds without a sign after which nothing is expected any more."""
        return LONG_SECONDS if self.trainer is None or compiling() else self.trainer.patience

    def give_up(self, number: int, seconds: float) -> None:
        """Say so and end the process, whatever it does."""
        name = signal.Signals(number).name
        lines = f"\nerror: {name} came, and nothing has moved for {seconds:.0f} s: ended where it was. "
        if self.trainer is None:
            lines += "Nothing was begun yet"
        else:
            lines += f"What was saved last stands; resume=<run> goes on from there{self.last_words()}"
        with contextlib.suppress(OSError):
            os.write(2, f"{lines}\n".encode())
        leave(number)


def leave(number: int) -> None:
    """End the process at once, as the signal would have done."""
    with contextlib.suppress(OSError):
        os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the bar had hidden the cursor
    os._exit(128 + number)


def compiling() -> bool:
    """Whether one of the compilers is at work in this process; neither is imported to find out."""
    ours, numba = sys.modules.get("dsac.compiler_cache"), sys.modules.get("numba.core.compiler_lock")
    return bool((ours and ours.under_way()) or (numba and numba.global_compiler_lock.is_locked()))


@contextlib.contextmanager
def handled(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """The signals go to `handle` within this block; one that the parent has had ignored, as nohup does, stays so."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watched(watch: Callable[[int], None]) -> Iterator[None]:
    """A thread that is told of signals by the kernel, whatever the main thread does within this block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=watch, args=(reading,), name="signals", daemon=True)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _told.add(os.getpid())
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _told.discard(os.getpid())
        os.write(writing, b"\0")
        thread.join()
        os.close(reading)
        os.close(writing)


def forget_the_pipe() -> None:
    """In a process that was forked: a signal to it, such as from a pool of workers that ends, is not its parent's."""
    if _told:
        signal.set_wakeup_fd(-1)
        _told.clear()


_told: set[int] = set()
os.register_at_fork(after_in_child=forget_the_pipe)


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[Stopping]:
    """Handle the signals within this block; in a thread other than the main one they are not Python's to handle."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    with watched(stopping.watch), handled(stopping.handle):
        yield stopping
