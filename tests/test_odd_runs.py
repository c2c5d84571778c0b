"""A comparison over a folder that may come from anyone: what is odd is left out and named, and does no harm."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_runs import made_run, made_seeds

from dsac import compare
from dsac.cli import exit_codes
from dsac.compare import cells, main, results
from dsac.schema import plain_text


def metrics(run: Path) -> Path:
    return run / "learner-0" / "metrics.csv"


def put(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


def in_config(run: Path, **values: Any) -> None:
    path = run / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    for key, value in values.items():
        section, _, name = key.rpartition("__")
        (tree[section] if section else tree)[name] = value
    path.write_text(yaml.safe_dump(tree))


def in_run_json(run: Path, **values: Any) -> None:
    path = run / "run.json"
    session = json.loads(path.read_text())["sessions"][0]
    path.write_text(json.dumps({"sessions": [session | values]}))


def to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


BOMB = "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (lambda run: put(metrics(run), os.mkfifo), "metrics.csv: not a plain file"),
    "a device": (lambda run: put(metrics(run), to_zero), "metrics.csv: a link"),
    "a huge file": (lambda run: put(metrics(run), sparse), "a line without an end"),
    "no text": (lambda run: metrics(run).write_bytes(b"\xff\xfe,1,1,eval/return,1\n"), "not a finite number"),
    "a short row": (lambda run: metrics(run).open("a").write("9,9,eval/return,1\n"), "not a finite number"),
    "a short row of the tag": (lambda run: metrics(run).open("a").write(",eval/return,\n"), "not a finite number"),
    "an endless return": (lambda run: metrics(run).open("a").write("9,9,9,eval/return,1e300\n"), "not a finite number"),
    "steps that go back": (lambda run: metrics(run).open("a").write("9,9,9,eval/return,1\n"), "not in order"),
    "a pipe for run.json": (lambda run: put(run / "run.json", os.mkfifo), "run.json: not a plain file"),
    "a device for run.json": (lambda run: put(run / "run.json", to_zero), "run.json: a link"),
    "no session": (lambda run: (run / "run.json").write_text('{"sessions": []}'), "there is no session"),
    "no versions": (lambda run: in_run_json(run, versions=[]), "versions"),
    "an odd end": (lambda run: in_run_json(run, ended={"exit_code": "4", "env_steps": 1}), "exit_code"),
    "a processor that clears the screen": (lambda run: in_run_json(run, cpu="\x1b[2J"), "cannot be printed"),
    "a yaml bomb": (lambda run: (run / "config.yaml").write_text(BOMB), "config.yaml"),
    "a deep yaml": (lambda run: (run / "config.yaml").write_text("a: " + "[" * 9999), "config.yaml"),
    "a date": (lambda run: (run / "config.yaml").write_text("seed: 2020-13-45\n"), "config.yaml"),
    "a word for a number": (lambda run: in_config(run, total_env_steps="many"), "total_env_steps=many"),
    "no seed": (lambda run: in_config(run, seed=None), "seed"),
    "an unknown task": (lambda run: in_config(run, env__name="../../etc"), "env.name=../../etc"),
    "an unknown algorithm": (lambda run: in_config(run, algo__name="sca"), "algo.name=sca"),
    "a list for a name": (lambda run: in_config(run, algo__name=["sac"]), "no algorithm"),
    "an escape sequence": (lambda run: in_config(run, experiment="\x1b]0;x\x07"), "cannot be printed"),
    "a learner of another name": (lambda run: (run / "learner-0").rename(run / "learner-abc"), "learner-abc"),
    "a learner that it has not": (lambda run: (run / "learner-0").rename(run / "learner-7"), "learner-7"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_an_odd_run_is_left_out_and_named(tmp_path: Path, name: str):
    """Catches a comparison of a hundred runs that fails, or waits for ever, for one of them."""
    damage, said = DAMAGE[name]
    made_run(tmp_path)
    odd = made_run(tmp_path, "sac")
    damage(odd)
    runs, remarks = results.read([tmp_path])
    assert [run.algorithm for run in runs] == ["dsac_t"]
    (line,) = remarks
    assert line.startswith(odd.name)
    assert "left out" in line
    assert said in line
    assert "\n" not in line
    assert len(line) < 300


def test_many_odd_runs_and_one_that_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a fault that only shows where the comparison goes on: all of them at once, to the end."""
    made_seeds(tmp_path / "runs", "dsac_t", [1.0, 2.0])
    for index, (damage, _) in enumerate(DAMAGE.values()):
        damage(made_run(tmp_path / "runs", "sac", seed=index))
    committed = results.read([tmp_path / "runs" / "Hopper" / "dsac_t"])[0]
    results.write_committed(tmp_path / "runs" / "made", committed)
    (tmp_path / "runs" / "made" / "runs.json").write_text('{"format": 1, "settings": {}, "runs": [3]}')
    assert main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "curves=false"]) == exit_codes.FINISHED
    captured = capsys.readouterr()
    assert captured.out.count("left out") == len(DAMAGE) + 1
    assert "note: made: left out, " in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_an_odd_calibration_counts_as_none(tmp_path: Path):
    """Catches a comparison that fails for a file that can be made anew."""
    run = made_run(tmp_path)
    for text in (
        "[]",
        "{",
        '{"env_steps": 1, "states": 3, "samples": 1, "mean": [1], "return_mean": [], "return_deviation": []}',
    ):
        (run / "learner-0" / "calibration.json").write_text(text)
        assert results.read([tmp_path])[0][0].calibration is None


def test_runs_below_a_run_are_its_own(tmp_path: Path):
    """Catches checkpoints that are walked through for configs, and a copy inside a run that counts as a run."""
    run = made_run(tmp_path)
    shutil.copytree(run, run / "checkpoints" / "copy")
    assert len(results.read([tmp_path])[0]) == 1


HOSTILE = "=cmd|' /C calc'!A0<script>alert(1)</script>[x](javascript:x)`"


def test_names_from_a_config_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a cell that a spreadsheet computes, and a name that is a script or a link in a page."""
    for index, name in enumerate((HOSTILE, "@SUM(1)")):
        run = made_run(tmp_path / "runs", "sac")
        in_config(run, algo__tau=0.5 + index, algo__activation=name)  # a task or an algorithm of such a name is refused
        in_run_json(run, cpu=name)
    (tmp_path / "out").mkdir()
    words = [f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "curves=false", "report=true", "films=false"]
    assert main(words) == exit_codes.FINISHED
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "@"))]
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "<script>" not in text
    assert "[x](" not in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+a", "'+a"), ("-a", "'-a"), ("@a", "'@a"), ("\ta", "\\ta"), ("DSAC-T", "DSAC-T"),
        ("-0.5", "-0.5"), ("+1e3", "+1e3"), (-0.5, -0.5), (None, None), ("a\nb", "a\\nb"),
    ],
)  # fmt: skip
def test_cells_of_a_spreadsheet(value: object, cell: object):
    """Catches a formula that is computed, and a number that no program can read any more."""
    assert plain_text.csv_cell(value) == cell


def test_markdown_is_text():
    """Catches a name that ends its cell, opens an element or is a link."""
    assert plain_text.markdown("a|b<i>&c`d\x1b") == "a\\|b&lt;i&gt;&amp;c\\`d\\x1b"
    assert plain_text.markdown("[x](y) [1, 2]") == "[x\\](y) [1, 2]"
    table = cells.Table("t\n", "x", ["", "a"], [["=1|", "\x1b[2J"]], ["<b>"])
    assert "\x1b" not in cells.screen(table)
    assert cells.markdown(table) == "### t\\n: x\n\n|  | a |\n| --- | ---: |\n| =1\\| | \\x1b[2J |\n\n&lt;b&gt;\n"


def test_a_report_over_odd_runs(tmp_path: Path):
    """Catches remarks that break a page."""
    made_seeds(tmp_path / "runs", "sac", [1.0])
    odd = made_run(tmp_path / "runs", "ppo")
    odd = odd.rename(odd.with_name("<script>alert(2)"))
    (odd / "run.json").write_text("[")
    report = compare(tmp_path / "runs", out=tmp_path, curves=False, report=True, films=False)
    assert any("alert(2)" in line for line in report["remarks"])
    assert "<script>alert(2)" not in (tmp_path / "report.html").read_text() + (tmp_path / "tables.md").read_text()
