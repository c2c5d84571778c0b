"""What the README promises is there: links resolve, code is where it points and runs as it says, commands parse."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from small_runs import small_config

from dsac.config import compose, load
from dsac.runs.hardware import resolve_hardware
from dsac.runs.parts import build

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\[([^\]]+)\]\((?!https?://)([^)#]+)(?:#L(\d+))?(?:#[^)]*)?\)", README)
LIFE = README.partition("### The life of a transition")[2].partition("\n## ")[0]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize(("text", "path", "line"), LINKS)
def test_link_resolves(text: str, path: str, line: str):
    """Catches a file that was moved and a line that was shifted away from the definition it shows."""
    assert (ROOT / path).exists()
    if line:
        name = text.strip("`").rpartition(".")[2]
        assert re.match(rf"\s*(def|class) {name}\b", (ROOT / path).read_text().splitlines()[int(line) - 1])


def test_critic_loss_is_one_short_function():
    """Catches a critic loss that is spread out or grows beyond a screen."""
    tree = ast.parse((ROOT / "dsac/algorithms/dsac_t.py").read_text())
    (loss,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "paper_loss"]
    assert loss.end_lineno - loss.lineno < 40
    assert "paper_loss" in [text.strip("`") for text, _, _ in LINKS]


def training_commands() -> Iterator[tuple[Path, list[str]]]:
    """Every training command of README and docs/ that names no run, no module of the reader's and no optional one."""
    for page in PAGES:
        for command in re.findall(r"python -m dsac\.train ((?:[\w.]+=\S+ *(?:\\\n *)?)+)", page.read_text()):
            words = [word.rstrip("`;:,") for word in command.replace("\\\n", " ").split()]
            if not any("<" in word or "..." in word or "my_package" in word or "shimmy:" in word for word in words):
                yield page, words


def test_training_commands_are_valid():
    """Catches an example with a key or a value that the trainer refuses."""
    pages = []
    for page, words in training_commands():
        load(compose([word for word in words if not word.startswith("resume=")]))
        pages.append(page)
    assert pages.count(ROOT / "README.md") >= 3
    assert len(set(pages)) >= 5


def test_the_two_commands_are_shown_and_exist():
    """Catches a set-up command that the Makefile does not know, and one below the first screen."""
    makefile = (ROOT / "Makefile").read_text()
    for target in ("train", "test"):
        assert f"make {target} " in "\n".join(README.splitlines()[:35])
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def traced(runs: Path, *words: str) -> list[tuple[str, str]]:
    """The functions of dsac/ and envs/ that two iterations of DSAC-T call, in the order of their first call: (path,
    qualified name). A record (a NamedTuple) is called where one is made. The iteration before has loaded what is
    compiled."""
    config, _ = resolve_hardware(small_config(runs, "dsac_t", "updates_per_env_step=0.5", *words))
    trainer = build(config)
    calls: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if str(frame.f_globals.get("__name__")).startswith("namedtuple_"):
            path, name = Path(inspect.getfile(frame.f_locals["_cls"])), frame.f_locals["_cls"].__name__
        if event == "call" and path.is_relative_to(ROOT) and path.parts[len(ROOT.parts)] in ("dsac", "envs"):
            calls.setdefault((str(path.relative_to(ROOT)), name))

    trainer.collect_block(trainer.algorithm.warmup_act, learning=False)
    trainer.collect_block(trainer.act, learning=True)
    sys.setprofile(note)
    try:
        for _ in range(2):  # the policy moves at every second update
            trainer.collect_block(trainer.act, learning=True)
    finally:
        sys.setprofile(None)
    for env in trainer.collector.envs:
        env.close()
    return list(calls)


def test_a_transition_lives_as_the_readme_tells(tmp_path: Path):
    """Catches a function that is no longer called, one that is called earlier or later, and a file that is left out."""
    calls = traced(tmp_path, "accelerate=eager", "experiment=recipe", "algo.observation_normalization=true")
    known: list[tuple[str, str]] = []
    for step in re.findall(r"^\d\. .*", LIFE, re.MULTILINE):
        here = [(path, name) for name, path in re.findall(r"\[`([\w.]+)`\]\(([^)#]+)#L\d+\)", step)]
        assert not [call for call in here if call not in calls], step
        known += [call for call in here if call not in known]
    places = [calls.index(call) for call in known]
    assert len(places) > 10
    assert places == sorted(places)
    files = set(re.findall(r"\]\(([\w/]+\.py)\) \(\d+\)", LIFE))
    assert files == {path for path, _ in calls}
