"""Config fields that know their range, so that the loader can refuse a wrong value before anything is built."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def between(default: Any, low: float, high: float, below: str | None = None) -> Any:
    """A number in the closed interval [low, high], less than the field named `below`; see `out_of_order`."""
    return field(default=default, metadata={"low": low, "high": high, "below": below})


def share(default: Any) -> Any:
    """A number above zero and at most one."""
    return field(default=default, metadata={"above": 0, "high": 1})


def at_least(default: Any, low: float) -> Any:
    """A number of at least `low`."""
    return field(default=default, metadata={"low": low})


def positive(default: Any) -> Any:
    """A number above zero."""
    return field(default=default, metadata={"above": 0})


def choice(default: str, *options: str) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"options": options})


def out_of_order(config: Any, section: str) -> list[str]:
    """A line for each field that is not below the one that it must be below."""
    pairs = [(item.name, item.metadata.get("below")) for item in fields(config)]
    return [
        f"{section}.{low}={getattr(config, low):g} must be less than {section}.{high}={getattr(config, high):g}"
        for low, high in pairs
        if high is not None and getattr(config, low) >= getattr(config, high)
    ]
