"""Links in docs/ resolve, those to a line show the code that they name, and examples run."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
RELINK = runpy.run_path(str(DOCS / "relink.py"))
LINK = re.compile(r"\[(`[^`]+`|[^\]]+)\]\((?!https?://)([^)#]*)(?:#L(\d+)|#([^)]*))?\)")


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked as, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", RELINK["DOCUMENTS"], ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_links_resolve(page: Path):
    """Catches a file or a section that was moved, and a link to a line whose text is not a name in backticks."""
    for text, target, line, anchor in LINK.findall(page.read_text()):
        shown = page.parent / target if target else page
        assert shown.exists(), f"[{text}]({target})"
        if anchor:
            assert anchor in anchors(shown), f"[{text}]({target}#{anchor})"
        if line:
            assert re.fullmatch("`[^`]+`", text), f"[{text}]({target}#L{line}): the text must be a name in backticks"
            name, lines = text.strip("`"), shown.read_text().splitlines()
            assert int(line) <= len(lines), f"{target} has no line {line}"
            held = name in lines[int(line) - 1] or re.match(rf"\s*def {name.split('.')[-1]}\b", lines[int(line) - 1])
            assert held, f"[{text}]({target}#L{line}): python docs/relink.py"


def test_the_index_names_every_page():
    """Catches a page that nobody finds."""
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert pages == {
        target for _, target, _, _ in LINK.findall((DOCS / "README.md").read_text()) if target[-3:] == ".md"
    }


@pytest.mark.parametrize("document", RELINK["DOCUMENTS"], ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_line_links_are_current(document: Path):
    """Catches code that moved away from under a link, a name that is gone, a default that the text quotes wrongly."""
    assert RELINK["relinked"](document) == document.read_text(), "run python docs/relink.py"


def test_a_moved_line_is_found(tmp_path: Path):
    """Catches a relink that does nothing: a wrong number is put right, definitions come before mentions."""
    (tmp_path / "code.py").write_text("# loss\nx = 1\ndef loss():\n    tau = 0.005\n")
    page = tmp_path / "page.md"
    page.write_text("[`loss`](code.py#L1) and [`tau = 0.005`](code.py#L9)")
    assert RELINK["relinked"](page) == "[`loss`](code.py#L3) and [`tau = 0.005`](code.py#L4)"
    page.write_text("[`gone`](code.py#L1)")
    with pytest.raises(LookupError, match="gone"):
        RELINK["relinked"](page)


def test_a_method_is_found_in_its_class(tmp_path: Path):
    """Catches a link to the method of the same name in a class above."""
    (tmp_path / "code.py").write_text("class A:\n    def run(): ...\nclass B:\n    def run(): ...\n")
    (tmp_path / "page.md").write_text("[`B.run`](code.py#L1)")
    assert RELINK["relinked"](tmp_path / "page.md") == "[`B.run`](code.py#L4)"


def test_sizes_and_folders_are_filled_in(tmp_path: Path):
    """Catches a sum that forgets a file, and a folder without its docstring."""
    (tmp_path / "dsac" / "room").mkdir(parents=True)
    (tmp_path / "dsac" / "room" / "__init__.py").write_text('"""What it holds.\n\nMore."""\n')
    marks = "<!-- {0}: written by docs/relink.py -->\n{1}<!-- end of {0} -->\n"
    page, listed = tmp_path / "README.md", "1 files, 1 lines: [a](dsac/room/__init__.py) (9), [b](README.md) (0)\n"
    page.write_text(marks.format("core path", listed) + marks.format("folders", ""))
    text = RELINK["relinked"](page)
    assert "2 files, 8 lines: [a](dsac/room/__init__.py) (3), [b](README.md) (5)" in text
    assert "| [dsac/room](dsac/room) | What it holds. |" in text


def run_python(*words: str, cwd: Path) -> str:
    """What a program prints that runs without an error."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_example_runs(tmp_path: Path):
    """Catches an example that names what is gone, or whose task no longer stops the run early."""
    out = run_python(str(DOCS / "example.py"), str(tmp_path), cwd=tmp_path)
    assert "exit code 75" in out
    assert "force of the cart: [" in out


def test_the_code_of_the_api_page_runs(tmp_path: Path):
    """Catches a page that shows a call which fails."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    (tmp_path / "page.py").write_text("\n".join(blocks))
    run_python("page.py", cwd=tmp_path)


def test_the_task_of_the_page_of_environments_runs(tmp_path: Path):
    """Catches a page whose task the engine refuses, a command that never changes, and an action that is not seen."""
    page = (DOCS / "environments.md").read_text()
    (block,) = re.findall(r"<!-- cheetah_speed.py: [^\n]*\n```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "cheetah_speed.py").write_text(block)
    steps = """
import numpy as np
import envs
cheetah = envs.make("custom", 2, 0, task="cheetah_speed")
move = np.full((2, 6), 0.5, np.float32)
seen = np.array([cheetah.step(move).next_obs for _ in range(200)])
print(len(np.unique(seen[:, 0, 0])), seen[0, 0, 1], seen.shape[2])
"""
    assert run_python("-c", steps, cwd=tmp_path).split() == ["4", "0.5", "24"]
