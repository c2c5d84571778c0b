"""The command that turns a policy into files for a controller: python -m dsac.export, or dsac.export(...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.cli.callable_module import hand_on

if TYPE_CHECKING:
    from dsac.export.command import export, main

__all__ = ["export", "main"]

__getattr__ = hand_on(__name__, "export")
