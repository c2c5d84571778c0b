"""Text that may come from anyone, made harmless for what reads it: a terminal, a spreadsheet, a page of Markdown.

HTML has its own: the templates of dsac/page escape what they are given.
"""

from __future__ import annotations

import math
import re

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula's beginning
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKS = re.compile(r"[&<>|`]|\](?=[(\[:])")  # ends of cells, code, elements, and links


def printable(text: str) -> str:
    """Text without characters that move a cursor, end a line or turn the direction of writing: \\x1b for an escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def csv_cell(value: object) -> object:
    """A value for a cell of a CSV: text that a spreadsheet would compute is quoted, as OWASP advises."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) and not is_number(text) else text


def is_number(text: str) -> bool:
    """Whether text is a plain number, such as -0.5."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def markdown(text: str) -> str:
    """Text for a line of Markdown or a cell of its tables."""
    return MARKS.sub(lambda found: HTML.get(found[0], f"\\{found[0]}"), printable(text))
