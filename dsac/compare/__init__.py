"""The command that compares runs: python -m dsac.compare, or dsac.compare(...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.compare.command import compare, main

__all__ = ["compare", "main"]

__getattr__ = hand_on(__name__, "compare")
