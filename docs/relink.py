"""Rewrite what README.md and docs/*.md say of the source: python docs/relink.py

- line numbers of links such as [`name`](path#L12): the line that defines the name (def or class; Class.method, too),
  else the first one with the text between the backticks;
- lines of a file, [name](path) (123), and their number and sum, between the marks of `core path` and of
  `path of the environments`;
- the folders of dsac/ with the first line of each one's docstring, between the marks of `folders`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINK = re.compile(r"\[`([^`]+)`\]\(([^()#\s]+)#L\d+\)")
SIZE = re.compile(r"\]\(([^()#\s]+)\) \(\d+\)")
TOTAL = re.compile(r"\d+ files, [\d,]+ lines")
BLOCK = "(<!-- {0}: written by docs/relink.py -->\n)(.*?)(<!-- end of {0} -->)"


def line_of(name: str, file: Path) -> int:
    """The line of a name in a file, Class.method included. Raises LookupError where there is none."""
    lines = file.read_text().splitlines()
    holder, _, method = name.rpartition(".")
    start = line_of(holder, file) if re.fullmatch(r"[A-Z]\w*", holder) else 0
    wanted = method if start else name
    for pattern in (rf"\s*(def|class) {re.escape(wanted)}\b", rf".*{re.escape(name)}"):
        for number, line in enumerate(lines[start:], start + 1):
            if re.match(pattern, line):
                return number
    raise LookupError(f"{file}: no line with {name!r}")


def core_path(text: str, folder: Path) -> str:
    """The block of files that one iteration runs, with the lines of each and of all."""
    sizes = {path: len((folder / path).read_text().splitlines()) for path in SIZE.findall(text)}
    text = SIZE.sub(lambda found: f"]({found[1]}) ({sizes[found[1]]})", text)
    return TOTAL.sub(f"{len(sizes)} files, {sum(sizes.values()):,} lines", text)


def folders(package: Path) -> str:
    """A row for each folder of a package: a link, and what its docstring says first."""
    rows = ["| folder | what is in it |", "|---|---|"]
    for init in sorted(package.glob("*/__init__.py")):
        caption = (ast.get_docstring(ast.parse(init.read_text())) or "").partition("\n")[0]
        path = init.parent.relative_to(package.parent)
        rows.append(f"| [{path}]({path}) | {caption} |")
    return "\n" + "\n".join(rows) + "\n\n"


def relinked(document: Path) -> str:
    """The text of a document with everything as it should be."""

    def link(found: re.Match[str]) -> str:
        name, path = found.groups()
        return f"[`{name}`]({path}#L{line_of(name, document.parent / path)})"

    text = LINK.sub(link, document.read_text())
    for name, content in (
        ("core path", lambda inner: core_path(inner, document.parent)),
        ("path of the environments", lambda inner: core_path(inner, document.parent)),
        ("folders", lambda _: folders(document.parent / "dsac")),
    ):
        block = re.compile(BLOCK.format(name), re.DOTALL)
        text = block.sub(lambda found, content=content: f"{found[1]}{content(found[2])}{found[3]}", text)
    return text


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(relinked(document))
