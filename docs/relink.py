"""Rewrite the line numbers of links such as [`name`](path#L12) in README.md and docs/*.md: python docs/relink.py

The line is where the name is defined (def or class), else the first that contains the text between the backticks.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINK = re.compile(r"\[`([^`]+)`\]\(([^()#\s]+)#L\d+\)")


def line_of(name: str, file: Path) -> int:
    """The line of a name in a file. Raises LookupError where there is none."""
    lines = file.read_text().splitlines()
    for pattern in (rf"\s*(def|class) {re.escape(name)}\b", rf".*{re.escape(name)}"):
        for number, line in enumerate(lines, 1):
            if re.match(pattern, line):
                return number
    raise LookupError(f"{file}: no line with {name!r}")


def relinked(document: Path) -> str:
    """The text of a document with every line number as it should be."""

    def link(found: re.Match[str]) -> str:
        name, path = found.groups()
        return f"[`{name}`]({path}#L{line_of(name, document.parent / path)})"

    return LINK.sub(link, document.read_text())


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(relinked(document))
