"""docs/deploy.md says what the program does: every word, every field of the contract, C that compiles."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from export_runs import SMALL, exported, untrained_run

from dsac.export.request import Request

PAGE = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text()


def first_column(start: str) -> set[str]:
    """The names in backticks in the first column of the table that follows a text."""
    rows = re.findall(r"^\|(.*?)\|", PAGE[PAGE.index(start) :].split("\n\n|", 1)[1].split("\n\n", 1)[0], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)", row)}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(untrained_run(tmp_path_factory.mktemp("runs"), "InvertedPendulum", "ppo", *SMALL), format="c")


def test_every_word_is_explained():
    """Catches a setting that the page does not know, and one that is gone."""
    assert first_column("without a notice.") == {field.name for field in dataclasses.fields(Request)} - {"run"}


def test_every_field_is_explained(out: Path):
    """Catches a field of the contract that a controller's author has to guess."""
    contract = json.loads((out / "policy.json").read_text())
    assert first_column("hold the same facts") == contract.keys() | {"risk"}  # which is there with risk=true only


def test_the_c_of_the_page_compiles(out: Path, tmp_path: Path):
    """Catches a name in the listing that the header does not have."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    include, body = re.search(r"```c\n(#include .*?\n)(.*?)```", PAGE, re.DOTALL).groups()
    (tmp_path / "page.c").write_text(f"#include <stdio.h>\n{include}int main(void)\n{{{body}return 0;\n}}\n")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wno-maybe-uninitialized", f"-I{out}", "page.c"]
    done = subprocess.run([*command, "-lm"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
