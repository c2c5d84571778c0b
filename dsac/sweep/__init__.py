"""The command that makes many runs, on this machine or on a Ray cluster: python -m dsac.sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.sweep.command import main

__all__ = ["main"]

__getattr__ = hand_on(__name__)
