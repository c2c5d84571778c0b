"""The command that measures how fast this machine is: python -m dsac.bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.bench.command import main

__all__ = ["main"]

__getattr__ = hand_on(__name__)
