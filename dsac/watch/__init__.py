"""The command that shows how far all runs below a folder are: python -m dsac.watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.watch.command import main

__all__ = ["main"]

__getattr__ = hand_on(__name__)
