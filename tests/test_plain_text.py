"""Text that someone else wrote reaches a terminal as text: nothing in it moves the cursor, hides a line or rings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from dsac.cli import exit_codes
from dsac.cli.exit_codes import failed, with_exit_code
from dsac.schema.plain_text import on_screen, warn
from dsac.train import main
from envs.contract import EnvironmentFault

ROOT = Path(__file__).parent.parent
HOSTILE = "a\x1b[2Jb\x07\x9b31m\rc\u202ed\x00\udc80"
SHOWN = r"a\x1b[2Jb\x07\x9b31m\rc\u202ed\x00\udc80"


@pytest.mark.parametrize(
    ("text", "shown"),
    [(HOSTILE, SHOWN), ("two\n  lines\n", "two lines"), ("  größer ✓", "  größer ✓"), ("a\tb\u2028c", r"a\tb\u2028c")],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str):
    """Catches an escape sequence that passes, and letters of people's names that do not."""
    assert on_screen(text) == shown


def raise_fault() -> int:
    raise EnvironmentFault(f"world 0: {HOSTILE}\nsecond line")


def test_errors_and_warnings_are_plain_lines(capsys: pytest.CaptureFixture[str]):
    """Catches an env's exception or a word of a config that reaches the terminal as it is."""
    failed(2, HOSTILE, "b")
    warn(HOSTILE)
    assert with_exit_code(raise_fault) == exit_codes.ENVIRONMENT
    assert capsys.readouterr().err.splitlines() == [
        f"error: {SHOWN}",
        "error: b",
        f"warning: {SHOWN}",
        f"error: world 0: {SHOWN} second line",
    ]


def test_a_recipe_writes_nothing_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a value or a key of a file that is shown with its control characters."""
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump({"device": HOSTILE[:-1], "\x1b[2J": 1, "algo": {"activation": "\x1b]0;x\x07"}}))
    assert main([f"experiment={path}", f"runs={tmp_path}"]) == exit_codes.USAGE
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 3
    assert said.replace("\n", "").isprintable()


def test_nothing_else_prints_errors_and_warnings():
    """Catches a warning that is printed past the one function that makes its text plain."""
    found = set()
    for path in sorted((ROOT / "dsac").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node.args:
                text = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
                if text.startswith(("warning: ", "error: ")) and "on_screen(" not in text:
                    found.add(str(path.relative_to(ROOT)))
    assert found <= {"dsac/tune/command.py"}  # overrides of the command itself
