"""What a run writes and loads is data: nothing can run code that it finds in a file, or waits on a port."""

from __future__ import annotations

import ast
import os
import pickle
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_config, train_whole

from dsac.cli import exit_codes
from dsac.errors import CheckpointError
from dsac.persistence.policies import load_policy
from dsac.train import main
from envs.caches import private_folder

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("dsac", "envs", "examples") for path in (ROOT / folder).rglob("*.py"))
IMPORT_A_USERS_MODULE = {"dsac/algorithms/__init__.py", "envs/tasks/__init__.py", "envs/registered.py"}
RUN_CODE = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy"}
LISTEN = {"socket", "socketserver", "http.server", "xmlrpc", "asyncio", "wsgiref", "multiprocessing.managers"}
ALLOWED = {
    "dsac/__init__.py": {"import_module"},  # its own commands
    "dsac/cli/callable_module.py": {"import_module"},  # the commands of its own tools
    "dsac/bench/command.py": {"import_module"},  # its own verbs
    "envs/__init__.py": {"import_module"},  # its own backends
    "envs/importing.py": {"import_module"},  # a user's module, by a name that was typed
    "dsac/export/torchscript.py": {"torch.jit.load"},  # what the same command has just written
    "dsac/collection/ray_cluster.py": {
        "import socket"
    },  # asks whether a cluster answers; Ray itself is not ours to lint
}


def findings(source: str) -> Iterator[str]:
    """What in a module could run code that is data, or wait for someone to call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from (f"import {name}" for name in names if {name, name.split(".")[0]} & (RUN_CODE | LISTEN))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if called in ("eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "os.system", "os.popen"):
            yield called
        if called.startswith("yaml.") and called.endswith("load") and called != "yaml.safe_load":
            yield called
        if called in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
            yield f"{called} without allow_pickle=False"
        if called.endswith("instantiate"):
            yield called
        for option, bad in (("allow_pickle", "True"), ("weights_only", "False"), ("shell", "True")):
            if options.get(option) == bad:
                yield f"{option}={bad}"
        if called.endswith("import_module"):
            yield "import_module"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_what_it_loads(path: Path):
    """Catches a format that executes, one line of convenience at a time."""
    assert set(findings(path.read_text())) <= ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import http.server", "import socket", "eval('1')", "exec(text)",
        "torch.load(path)", "np.load(path)", "np.load(path, allow_pickle=True)", "yaml.load(text, Loader)",
        "yaml.unsafe_load(text)", "torch.load(path, weights_only=False)", "subprocess.run(text, shell=True)",
        "hydra.utils.instantiate(tree)", "importlib.import_module(tree['name'])", "__import__(name)", "os.system(text)",
    ],
)  # fmt: skip
def test_the_lint_sees_each_of_them(line: str):
    """Catches a lint that has gone blind."""
    assert list(findings(line))


def test_modules_of_a_user_are_imported_in_three_places():
    """Catches a new road by which a name leads to an import, which nobody has asked where the name comes from."""
    calls = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("users_module")
    }
    assert calls == IMPORT_A_USERS_MODULE


def test_no_port_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a dashboard or a debugger that a run opens to the network by default, libraries included."""

    opened: list[Any] = []

    def listen(*arguments: Any) -> None:
        opened.append(arguments)
        raise OSError("no port here")

    monkeypatch.setattr(socket.socket, "listen", listen)
    monkeypatch.setattr(socket.socket, "bind", listen)
    train_whole(small_config(tmp_path))
    assert opened == []


class Canary:
    """Unpickled, it leaves a trace."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("canary"),)


def test_a_pickle_in_a_run_folder_stays_closed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a loader that tries one format after the other: in place of each file that a run is read from."""
    monkeypatch.chdir(tmp_path)
    tried = 0
    for place in sorted(path.relative_to(finished) for path in finished.rglob("*.*") if path.is_file()):
        run = shutil.copytree(finished, tmp_path / str(tried))
        path = run / place
        path.write_bytes(pickle.dumps(Canary()))
        code = main([f"resume={run}", "total_env_steps=258"])
        assert code in (exit_codes.FINISHED, exit_codes.USAGE, exit_codes.STORAGE), path
        try:
            load_policy(run, "last")
        except CheckpointError:
            assert "last" in place.parts
        assert not Path("canary").exists()
        tried += 1
    assert tried > 10


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")
def test_compiled_code_is_kept_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches compiled code that someone else could have put there: a folder in /tmp, or one that others write to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = private_folder("inductor")
    assert folder == tmp_path / "dsac" / "inductor"
    folder.chmod(0o777)
    assert stat.S_IMODE(private_folder("inductor").stat().st_mode) == 0o700
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    other = private_folder("inductor")
    assert not other.is_relative_to(tmp_path / "dsac")
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
