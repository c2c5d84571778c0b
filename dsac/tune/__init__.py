"""The command that searches for good settings: python -m dsac.tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.tune.command import main

__all__ = ["main"]

__getattr__ = hand_on(__name__)
