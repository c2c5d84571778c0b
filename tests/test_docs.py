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
LINKS = [
    (page, text, target, line)
    for page in sorted(DOCS.glob("*.md"))
    for text, target, line in re.findall(
        r"\[(`[^`]+`|[^\]]+)\]\((?!https?://)([^)#]*)(?:#L(\d+)|#[^)]*)?\)", page.read_text()
    )
]


@pytest.mark.parametrize("page", sorted({page.name for page, *_ in LINKS}))
def test_links_resolve(page: str):
    """Catches a file that was moved, and a link to a line whose text is not a name in backticks."""
    for source, text, target, line in LINKS:
        if source.name != page or not target:
            continue
        assert (DOCS / target).exists(), f"[{text}]({target})"
        if line:
            assert re.fullmatch("`[^`]+`", text), f"[{text}]({target}#L{line}): the text must be a name in backticks"
            shown = (DOCS / target).read_text().splitlines()[int(line) - 1 : int(line)]
            assert shown, f"{target} has no line {line}"
            assert text.strip("`") in shown[0], f"[{text}]({target}#L{line}): python docs/relink.py"


@pytest.mark.parametrize("document", RELINK["DOCUMENTS"], ids=lambda document: document.name)
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
