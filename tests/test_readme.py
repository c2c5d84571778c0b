"""What the README promises is there: links resolve, the critic loss is where it points, commands parse."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dsac.config import compose, load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\[([^\]]+)\]\((?!https?://)([^)#]+)(?:#L(\d+))?\)", README)


@pytest.mark.parametrize(("text", "path", "line"), LINKS)
def test_link_resolves(text: str, path: str, line: str):
    """Catches a file that was moved and a line that was shifted away from the function it shows."""
    assert (ROOT / path).exists()
    if line:
        assert (ROOT / path).read_text().splitlines()[int(line) - 1].startswith(f"def {text.strip('`')}(")


def test_critic_loss_is_one_short_function():
    """Catches a critic loss that is spread out or grows beyond a screen."""
    tree = ast.parse((ROOT / "dsac/algorithms/dsac_t.py").read_text())
    (loss,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "paper_loss"]
    assert loss.end_lineno - loss.lineno < 40
    assert "paper_loss" in [text.strip("`") for text, _, _ in LINKS]


def test_training_commands_are_valid():
    """Catches an example with a key or a value that the trainer refuses."""
    commands = re.findall(r"python -m dsac\.train ((?:[\w.]+=\S+ ?)+)", README)
    checked = 0
    for command in commands:
        words = command.rstrip("`").split()
        if any("<" in word or "my_package" in word for word in words):
            continue
        load(compose(words))
        checked += 1
    assert checked >= 3


def test_the_two_commands_are_shown_and_exist():
    """Catches a set-up command that the Makefile does not know."""
    makefile = (ROOT / "Makefile").read_text()
    for target in ("train", "test"):
        assert f"make {target} " in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
