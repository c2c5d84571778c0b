"""What a message must tell: the key, the value and what would be right, in whatever words."""

from __future__ import annotations


def assert_says(message: str, *parts: str) -> None:
    """Every part is in the message, in this order."""
    rest = message
    for part in parts:
        _, found, rest = rest.partition(part)
        assert found, f"{part!r} is not told, or not there: {message}"
