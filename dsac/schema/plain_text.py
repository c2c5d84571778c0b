"""Text from configs, files and environments, made harmless for what reads it: a terminal, a program, a spreadsheet.

HTML has its own: the templates of dsac/compare/page escape what they are given.
"""

from __future__ import annotations

import math
import re
import sys

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula's beginning
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKS = re.compile(r"[&<>|`]|\](?=[(\[:])")  # ends of cells, code, elements, and links


def printable(text: str) -> str:
    """Text without characters that move a cursor, end a line or turn the direction of writing: \\x1b for an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def on_screen(text: object) -> str:
    """One line without anything that a terminal obeys; the ends of lines within become spaces."""
    return printable(re.sub(r"\s*\n\s*", " ", str(text).rstrip()))


def warn(text: object) -> None:
    """A warning, as a line on stderr."""
    print(f"warning: {on_screen(text)}", file=sys.stderr, flush=True)


def in_source(text: object) -> str:
    """One line of printable ASCII that neither ends a comment or a string of C nor begins one.

    A question mark stands for every other letter and for the backslash, which joins lines; two of them would make one.
    """
    line = "".join(letter if " " <= letter <= "~" and letter != "\\" else "?" for letter in str(text))
    line = re.sub(r"\?{2,}", "?", line)
    return re.sub(r"\*(?=/)|/(?=\*)", r"\g<0> ", line)


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
