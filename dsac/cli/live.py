"""A part of the terminal that is drawn again and again."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live


class LiveScreen:
    """What a view of runs draws on; nothing is drawn where there is no terminal. A context manager.

    redirect_stderr: whether what others write to standard error is shown above the drawing.
    """

    def __init__(self, console: Console, redirect_stderr: bool = True) -> None:
        self.console = console
        self.live = Live(console=console, auto_refresh=False, redirect_stderr=redirect_stderr)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()
