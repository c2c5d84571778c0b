"""Text from configs, files and environments, made harmless for a terminal or for the source of a program."""

from __future__ import annotations

import re
import sys


def on_screen(text: object) -> str:
    """One line without anything that a terminal obeys: what cannot be printed is shown as its escape, such as \\x1b."""
    line = re.sub(r"\s*\n\s*", " ", str(text).rstrip())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


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
