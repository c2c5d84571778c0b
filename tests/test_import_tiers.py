"""Imports point downwards, a library stays behind its part, no folder grows too large, and --help waits for nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dsac.algorithms import names

ROOT = Path(__file__).parent.parent
MOST_MODULES = 16  # of a folder
KNOW_NO_ALGORITHM = [
    "dsac/trainer.py",
    "dsac/collection/collector.py",
    "dsac/memory/replay.py",
    "dsac/memory/kernels.py",
    "dsac/memory/rollout.py",
]


def test_imports_keep_their_contracts(monkeypatch: pytest.MonkeyPatch):
    """Catches an import upwards, a circle, a room that nobody placed, a library outside the part that wraps it.

    The contracts are in pyproject.toml, [tool.importlinter].
    """
    from importlinter.cli import lint_imports  # late, like networkx below: every worker collects every file

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # it would silence the logs of later tests
    assert lint_imports(no_cache=True) == 0


def test_the_picture_of_the_imports_is_current():
    """Catches a room or an arrow that docs/imports.md does not have, and one that is gone."""
    import imports

    assert imports.PAGE.read_text() == imports.page(), "run python docs/imports.py"


def test_every_room_has_a_caption():
    """Catches a package without a word on what is in it, and one that tells a story."""
    packages = [path.parent for part in ("dsac", "envs") for path in (ROOT / part).rglob("__init__.py")]
    captions = {str(path): ast.get_docstring(ast.parse((path / "__init__.py").read_text())) for path in packages}
    captions.pop(str(ROOT / "dsac"))  # the package itself: it says what can be called
    assert not {path: text for path, text in captions.items() if not text or "\n" in text}


def test_no_folder_is_too_large():
    """Catches the next flat folder, in which nobody finds a module."""
    modules = [path for part in ("dsac", "envs") for path in (ROOT / part).rglob("*.py")]
    sizes = Counter(path.parent for path in modules if path.name not in ("__init__.py", "__main__.py"))
    assert not {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES}


@pytest.mark.parametrize("module", KNOW_NO_ALGORITHM)
def test_the_loop_knows_no_algorithm(module: str):
    """Catches `if algo == "ppo"` and ladders of isinstance in the parts that serve all algorithms."""
    nodes = list(ast.walk(ast.parse((ROOT / module).read_text())))
    assert not [node for node in nodes if isinstance(node, ast.Constant) and node.value in names()]
    assert not [node for node in nodes if isinstance(node, ast.Name) and node.id == "isinstance"]


LATE_IMPORTS = """
import sys
import dsac
import dsac.compare
import dsac.cli.progress
import dsac.evaluate
import dsac.export
import dsac.sweep
import dsac.tune
import dsac.watch
from dsac.train import main
mains = (main, dsac.evaluate.main, dsac.compare.main, dsac.export.main, dsac.sweep.main, dsac.tune.main)
mains += (dsac.watch.main,)
assert [command(["--help"]) for command in mains] == [0] * 7
assert not {"torch", "hydra", "gymnasium", "optuna"} & sys.modules.keys(), "--help"
def enter(bar):
    print("bar" if "torch" not in sys.modules else "torch first")
    sys.exit()
dsac.cli.progress.ProgressBar.__enter__ = enter
main(["env=InvertedPendulum"])
"""


def test_help_and_the_progress_bar_come_before_torch():
    """Catches an import at the top of a command that makes --help, or the first sign of life, wait for seconds."""
    done = subprocess.run([sys.executable, "-c", LATE_IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "bar"
    assert "algo=NAME --help" in done.stdout
    assert "total_env_steps" in done.stdout


PLAIN_TRAINING = """
import sys
import dsac.runs.session
import dsac.train
import envs.engine
others = ("dsac.compare", "dsac.sweep", "dsac.tune", "dsac.watch", "envs.gymnasium", "envs.registered")
print([name for name in sys.modules if name.startswith(others)])
"""


def test_a_plain_training_imports_no_other_command():
    """Catches a training that loads what compares, sweeps or watches, or Gymnasium beside the compiled engine."""
    done = subprocess.run([sys.executable, "-c", PLAIN_TRAINING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
