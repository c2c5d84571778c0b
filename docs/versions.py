"""Try dsac with other versions of Python, MuJoCo, torch and Gymnasium: python docs/versions.py [WORD ...]

Each row of ROWS gets an environment of its own below build/matrix, made by uv, and runs its tests there. What came of
it is kept in docs/results/versions.json and written into docs/install.md. Words choose the rows whose names hold them
all: "python=3.12", "mujoco=4". `--page` runs nothing and writes the page anew. `make matrix` runs all rows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "versions.json"
PAGE = ROOT / "docs" / "install.md"
BLOCK = re.compile("(<!-- versions: written by docs/versions.py -->\n).*?(<!-- end of versions -->)", re.DOTALL)
ENVIRONMENTS = ROOT / "build" / "matrix"
UV = (sys.executable, "-m", "uv")
NAMES = ("mujoco", "torch", "gymnasium", "numba", "numpy")
PARITY = ("-m", "not faults", "tests/test_engine_parity.py")  # the engine beside Gymnasium on the same MuJoCo
FAST = ("-m", "not slow and not faults")
PLACES = {"fast": "tests", "engine": "tests/test_engine.py"}
NEEDED = {  # the engine needs no torch
    "fast": ("--editable", ".[dev]"),
    "engine": ("gymnasium[mujoco]", "numba", "numpy", "pytest", "pytest-timeout"),
}


class Row(NamedTuple):
    """One environment.

    others  what decides the other packages: "constraints.txt", "newest", or "oldest", the least that pyproject.toml has
    tests   the fast tests of "fast", all files, or of the "engine", without torch; and its parity with Gymnasium
    """

    python: str = "3.11"
    mujoco: str = "4.0.0"
    torch: str = "2.13.0"
    gymnasium: str = "1.4.0"
    others: str = "constraints.txt"
    tests: str = "fast"

    @property
    def name(self) -> str:
        return " ".join(f"{field}={value}" for field, value in self._asdict().items() if value)


ROWS = (
    Row(mujoco="3.17.0"),
    Row(),
    Row(mujoco="3.8.0", gymnasium="1.1.0", others="oldest"),
    Row(python="3.12"),
    Row(python="3.13"),
    Row(python="3.14", others="newest"),
    Row(torch="2.11.0"),
    Row(torch="2.14.1"),
    Row(torch="2.15.0"),
    *(Row(python=python, torch="", tests="engine") for python in ("3.12", "3.13")),
    *(Row(mujoco=f"3.{minor}.0", torch="", tests="engine") for minor in range(8, 17)),
)


class NotToBeHad(Exception):
    """An environment cannot be made here; the message says what is missing."""


def make(row: Row, folder: Path) -> Path:
    """Make the environment of a row; its Python. Raises NotToBeHad."""
    python = folder / "bin" / "python"
    chosen = {name: getattr(row, name) for name in ("mujoco", "torch", "gymnasium") if getattr(row, name)}
    pinned = (ROOT / "constraints.txt").read_text().splitlines() if row.others == "constraints.txt" else []
    lines = [line for line in pinned if line.partition("==")[0] not in chosen]
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    constraints = folder.with_name(f"{folder.name}.constraints")
    constraints.write_text("\n".join([*lines, *(f"{name}=={version}" for name, version in chosen.items())]))
    uv("venv", "--quiet", "--clear", "--python", row.python, str(folder))
    install = ("pip", "install", "--quiet", "--python", str(python), "--constraint", str(constraints))
    if row.others == "oldest":
        uv(*install, "--resolution", "lowest-direct", "--editable", ".")
    uv(*install, *NEEDED[row.tests])
    return python


def uv(*words: str) -> None:
    """Run uv. Raises NotToBeHad with what it says, without the paths of this machine."""
    done = subprocess.run([*UV, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        complaint = re.sub(r"`?/\S+|[^ -~]", " ", re.split("cause:|hint:", done.stderr)[0])
        raise NotToBeHad(" ".join(complaint.split()).removeprefix("error: ")[:200])


def tested(python: Path, words: tuple[str, ...], report: Path) -> dict[str, Any]:
    """Run tests, which show how far they are; how many passed, failed and were skipped, and which failed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", "pytest", "-o", "timeout=0", "-p", "no:cacheprovider", "--durations=0"]
    command += ["--durations-min=60", f"--junitxml={report}", *words]
    report.unlink(missing_ok=True)
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if not report.exists():
        return {"passed": 0, "failed": 1, "skipped": 0, "failures": [f"pytest ended with code {code}"]}
    cases = list(ElementTree.parse(report).iter("testcase"))
    failures = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = [f"{case.get('classname')}::{case.get('name')}" for case in failures]
    counts = {"failed": len(failures), "skipped": len(skipped), "failures": names}
    return {"passed": len(cases) - len(failures) - len(skipped), **counts}


def installed(python: Path) -> dict[str, str]:
    """The versions that an environment has."""
    code = "import json, platform, sys; from importlib.metadata import distributions; "
    code += "found = {one.name: one.version for one in distributions() if one.name in sys.argv}; "
    code += "print(json.dumps({'python': platform.python_version(), **found}))"
    done = subprocess.run([str(python), "-c", code, *NAMES], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def tried(row: Row) -> dict[str, Any]:
    """What came of a row."""
    folder = ENVIRONMENTS / re.sub(r"[^\w.]+", "-", row.name)
    facts: dict[str, Any] = {"row": row._asdict(), "date": time.strftime("%Y-%m-%d"), "machine": os.uname().machine}
    try:
        python = make(row, folder)
    except NotToBeHad as error:
        return facts | {"outcome": "not to be had", "reason": str(error)}
    report = folder.with_name(f"{folder.name}.xml")
    parity, fast = (tested(python, words, report) for words in (PARITY, (*FAST, PLACES[row.tests])))
    counts = {key: parity[key] + fast[key] for key in fast}
    outcome = "failed" if counts["failed"] else "passed"
    return facts | {"outcome": outcome, "installed": installed(python), **counts}


def results() -> dict[str, dict[str, Any]]:
    """What is known of each row, by its name."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def table() -> str:
    """The rows for people, in the order of ROWS."""
    lines = [
        "| Python | MuJoCo | torch | Gymnasium | other packages | tests | what came of it |",
        "|---|---|---|---|---|---|---|",
    ]
    known = results()
    for row in ROWS:
        found = known.get(row.name)
        versions = {**row._asdict(), **(found or {}).get("installed", {})}
        cells = [versions[name] for name in ("python", "mujoco", "torch", "gymnasium")]
        lines.append(f"| {' | '.join([*cells, row.others, row.tests, said(found)])} |")
    return "\n".join(lines) + "\n"


def said(found: dict[str, Any] | None) -> str:
    """What came of a row, in a cell."""
    if found is None:
        return "not tried"
    if found["outcome"] == "not to be had":
        return f"not to be had: {found['reason'].replace('|', '/')}"
    counts = f"{found['passed']:,} passed, {found['skipped']} skipped"
    return counts + (f", **{found['failed']} failed**" if found["failed"] else "")


def page() -> str:
    """The text of docs/install.md with the table of what is known."""
    return BLOCK.sub(lambda found: found[1] + table() + found[2], PAGE.read_text())


def main(words: list[str]) -> int:
    chosen = [row for row in ROWS if all(word in row.name for word in words)] if words != ["--page"] else []
    outcomes = []
    for number, row in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {row.name}", flush=True)
        found = tried(row)
        outcomes.append(found["outcome"])
        print(
            f"[{number}/{len(chosen)}] {row.name}: {found['outcome']}",
            *found.get("failures", []),
            sep="\n  ",
            flush=True,
        )
        RESULTS.write_text(json.dumps({**results(), row.name: found}, indent=1) + "\n")
        PAGE.write_text(page())
    print(table())
    return int("failed" in outcomes)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
