"""Words that were replaced stay replaced, and a function is named after what it does or returns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = re.search(r'git grep -nwiE "([^"]+)"', (ROOT / "CONTRIBUTING.md").read_text())
FOLDERS = ("conf", "docs", "dsac", "envs", "examples", "tests")
SUFFIXES = {".c", ".h", ".in", ".js", ".md", ".py", ".toml", ".yaml"}
SAY_NOTHING = {
    "alike", "beside", "brought", "chosen", "conclude", "found", "opened", "said", "seen", "settle", "standing",
    "subject", "taken", "told", "unlike",
}  # fmt: skip


def texts() -> dict[Path, str]:
    """Every text of the repository but its history."""
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != "CHANGELOG.md"]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return {path: path.read_text() for path in files if path.suffix in SUFFIXES or path.name == "Makefile"}


def test_retired_words_stay_away():
    """Catches a second word for a thing that has one. Those out of use are in a command in CONTRIBUTING.md."""
    assert COMMAND, "CONTRIBUTING.md: no git grep for the words that are out of use"
    retired = re.compile(rf"(?<![a-z])({COMMAND[1]})(?![a-z])", re.IGNORECASE)
    found = {
        str(path.relative_to(ROOT)): [word[0] for word in retired.finditer(text)] for path, text in texts().items()
    }
    assert not {path: words for path, words in found.items() if words}


def test_no_function_has_a_name_that_says_nothing():
    """Catches `told(...)` and `taken(...)`: who reads the call must go and look what it does."""
    functions = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, text in texts().items()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("dsac", "envs")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_") in SAY_NOTHING
    ]
    assert not functions
