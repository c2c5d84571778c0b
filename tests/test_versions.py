"""make matrix: what came of each row is kept and told, whatever came of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import versions
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((versions.ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results and page of the test's own; none of its rows makes an environment."""
    monkeypatch.setattr(versions, "RESULTS", tmp_path / "versions.json")
    monkeypatch.setattr(versions, "PAGE", tmp_path / "install.md")
    versions.PAGE.write_text("<!-- versions: written by docs/versions.py -->\n<!-- end of versions -->\n")
    monkeypatch.setattr(versions, "make", lambda row, folder: Path("python"))
    monkeypatch.setattr(versions, "installed", lambda python: {"mujoco": "4.0.0"})
    return versions.RESULTS


def counts(passed: int, *failures: str) -> dict[str, Any]:
    return {"passed": passed, "failed": len(failures), "skipped": 1, "failures": list(failures)}


def test_the_table_is_current():
    """Catches a table that is older than its results, or was edited by hand."""
    assert versions.page() == versions.PAGE.read_text(), "run python docs/versions.py --page"


def test_the_project_takes_what_is_tried():
    """Catches a row that pip would refuse, and two rows of which one hides the other."""
    ranges = {found.name: found.specifier for found in map(Requirement, PROJECT["dependencies"])}
    for row in versions.ROWS:
        chosen = {name: getattr(row, name) for name in ("mujoco", "torch", "gymnasium")}
        assert all(ranges[name].contains(version) for name, version in chosen.items() if version), row.name
        assert SpecifierSet(PROJECT["requires-python"]).contains(row.python)
    assert len({row.name for row in versions.ROWS}) == len(versions.ROWS)


def test_a_failure_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a matrix that is green beside failures, and one that forgets the rows of an earlier call."""
    monkeypatch.setattr(versions, "tested", lambda python, words, report: counts(7))
    assert versions.main(["mujoco=3.9.0"]) == 0
    monkeypatch.setattr(versions, "tested", lambda python, words, report: counts(5, "tests.test_engine::test_speed"))
    assert versions.main(["mujoco=4.0.0", "torch=2.15.0"]) == 1
    out = capsys.readouterr().out
    assert "[1/1]" in out
    assert "tests.test_engine::test_speed" in out
    outcomes = [found["outcome"] for found in json.loads(kept.read_text()).values()]
    assert outcomes == ["passed", "failed"]
    assert "14 passed" in versions.PAGE.read_text()
    assert "**2 failed**" in versions.PAGE.read_text()


def test_what_cannot_be_had_is_no_failure(kept: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a machine without some Python on which make matrix is red, and a reason that nobody is told."""

    def missing(row: Any, folder: Path) -> Path:
        raise versions.NotToBeHad("No interpreter found for Python 3.14")

    monkeypatch.setattr(versions, "make", missing)
    assert versions.main(["python=3.14"]) == 0
    assert "not to be had: No interpreter found for Python 3.14" in versions.PAGE.read_text()


def test_tests_that_do_not_start_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an environment whose pytest dies at once and counts as nothing failed."""
    monkeypatch.setattr(versions.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 4}))
    found = versions.tested(Path("python"), (), tmp_path / "report.xml")
    assert found["failed"] == 1
    assert "4" in found["failures"][0]
