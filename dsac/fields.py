"""Config fields that know their range, so that the loader can refuse a wrong value before anything is built."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def between(default: Any, low: float, high: float) -> Any:
    """A number in the closed interval [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def at_least(default: Any, low: float) -> Any:
    """A number of at least `low`."""
    return field(default=default, metadata={"low": low})


def positive(default: Any) -> Any:
    """A number above zero."""
    return field(default=default, metadata={"above": 0})


def choice(default: str, *options: str) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"options": options})
