"""Compiled code between starts: it lies where nobody else can put any, and no start leaves what breaks the next."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from small_runs import assert_same, final_state, only_run, small_words

from dsac import compiler_cache
from dsac.cli import exit_codes
from dsac.train import main
from envs.caches import private_folder
from envs.native.compile_cache import cached

faults = pytest.mark.faults
needs_compiler = pytest.mark.usefixtures("compiler")
SOURCE = "int answer(void) { return 42; }"


class Forked:
    """A process that builds the library too; it waits in the midst, and is killed or told to go on."""

    def __init__(self, when: str) -> None:
        self.there, there = os.pipe()
        go, self.go = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os._exit(compiler_cache.build(lambda: self.waiting(when, there, go)))

    def waiting(self, when: str, there: int, go: int) -> int:
        (Path(os.environ[compiler_cache.VARIABLE]) / "half").touch()
        answer = build() if when == "after" else 0
        os.write(there, b".")
        os.read(go, 1)
        return answer or build()

    def end(self, kill: bool) -> int:
        """Let it come to the midst, then end it; its exit code."""
        os.read(self.there, 1)
        os.kill(self.process, signal.SIGKILL) if kill else os.write(self.go, b".")
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def build() -> int:
    """Build a library as torch's compiler does, in the cache of the environment, and load it."""
    folder = Path(os.environ[compiler_cache.VARIABLE])
    built, source = folder / "answer.main.so", folder / "answer.c"
    if not built.exists():
        source.write_text(SOURCE)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", built, source], check=True)
    return int(ctypes.CDLL(str(built)).answer())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv(compiler_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def libraries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.so"))


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_code_that_is_cut_short_is_built_anew(share: float, cache: Path, capsys: pytest.CaptureFixture[str]):
    """Catches an empty library that ends every later start, and a short one that ends it with a bus error."""
    assert compiler_cache.build(build) == 42
    (library,) = libraries(cache)
    whole = library.read_bytes()
    library.unlink()  # a library that this process has loaded is not read again
    library.write_bytes(whole[: int(share * len(whole))])
    assert compiler_cache.build(build) == 42
    assert [path.read_bytes() for path in libraries(cache)] == [whole]
    (line,) = capsys.readouterr().err.splitlines()
    assert "answer.main.so" in line
    assert "built anew" in line
    assert compiler_cache.build(build) == 42
    assert not capsys.readouterr().err


@needs_compiler
def test_what_cannot_be_used_is_built_anew_once(cache: Path, capsys: pytest.CaptureFixture[str]):
    """Catches generated source that was cut short and is believed for ever, and a retry without end."""
    assert compiler_cache.build(build) == 42
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    (folder / "wrapper.py").write_text("def ca")

    def reading() -> int:
        wrapper = Path(os.environ[compiler_cache.VARIABLE]) / "wrapper.py"
        if wrapper.exists():
            compile(wrapper.read_text(), "wrapper.py", "exec")
        return build()

    assert compiler_cache.build(reading) == 42
    assert "SyntaxError" in capsys.readouterr().err
    assert not folder.exists()
    tries: list[int] = []
    with pytest.raises(ZeroDivisionError):
        compiler_cache.build(lambda: tries.append(1) or 1 // 0)
    assert len(tries) == 2


@needs_compiler
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_start_that_was_killed_while_it_compiled_costs_no_later_one(
    when: str, cache: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a cache that a kill left half done and that is believed: here a file that no check would find wrong."""
    assert Forked(when).end(kill=True) == -signal.SIGKILL
    assert compiler_cache.build(build) == 42
    assert "ended while it compiled" in capsys.readouterr().err
    assert not list(cache.rglob("half"))
    assert compiler_cache.build(build) == 42
    assert not capsys.readouterr().err


@needs_compiler
def test_a_damaged_cache_stays_while_another_process_compiles_in_it(cache: Path):
    """Catches a folder that is deleted, or believed, while another process compiles in it."""
    other = Forked("before")
    assert os.read(other.there, 1) == b"."
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    (folder / "short.so").touch()
    assert compiler_cache.build(build) == 42
    assert not Path(os.environ[compiler_cache.VARIABLE]).samefile(folder)
    os.write(other.go, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(other.process, 0)[1]) == 42
    assert compiler_cache.build(build) == 42
    assert not folder.exists()


USED = """
import os, sys
import torch._inductor
from dsac import compiler_cache
from torch._inductor import codecache
places = []
compiler_cache.build(lambda: places.extend([os.environ["TORCHINDUCTOR_CACHE_DIR"], codecache._HEADER_DIR]))
print(*places)
"""


def test_torch_compiles_in_the_private_folder_whoever_imported_it_first(tmp_path: Path):
    """Catches code that is executed from a folder in /tmp whose name anybody knows: torch's own choice."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    environment.pop(compiler_cache.VARIABLE, None)
    done = subprocess.run([sys.executable, "-c", USED], env=environment, capture_output=True, text=True, check=True)
    places = [Path(place) for place in done.stdout.split()]
    assert all(place.is_relative_to(tmp_path / "cache" / "dsac" / "inductor") for place in places), places


def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None) -> None:
    """A user whose cache folder cannot be made; the temporary folder is the test's."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", home)


@pytest.mark.parametrize("home", [None, "/dev/null", "/proc"])
def test_without_a_home_one_private_folder_is_kept(home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback in a container, and new folders in the temporary one at each start."""
    homeless(monkeypatch, tmp_path, home)
    folders = [private_folder(name) for name in ("compiled", "inductor", "compiled")]
    top = tmp_path / f"dsac-{os.getuid()}"
    assert folders == [top / "compiled", top / "inductor", top / "compiled"]
    assert [path.name for path in tmp_path.iterdir()] == [top.name]
    assert (top.stat().st_mode & 0o777, folders[0].stat().st_mode & 0o777) == (0o700, 0o700)


@pytest.mark.parametrize("kind", ["owner", "link"])
def test_a_place_that_somebody_else_took_is_not_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches code that is run from a folder which another user has made under the name that is known beforehand."""
    homeless(monkeypatch, tmp_path, None)
    top = tmp_path / f"dsac-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    top.symlink_to(tmp_path / "theirs") if kind == "link" else top.mkdir()
    real = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real)
    os.lchown(top, real + 1, -1) if real == 0 else pytest.skip("only root can give a folder away")
    folder = private_folder("inductor")
    assert not folder.is_relative_to(top)
    assert not folder.is_relative_to(tmp_path / "theirs")
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert private_folder("inductor") == folder


def double(values: Any) -> Any:
    return values * 2


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_kernel_that_is_cut_short_is_compiled_anew(
    ending: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a power cut that leaves half a file of numba's, which then ends every start."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def answer() -> list[float]:
        with cached(double):
            kernel = njit(cache=True)(double)
        return list(kernel(np.ones(2)))

    assert answer() == [2, 2]
    (path,) = tmp_path.rglob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert answer() == [2, 2]
    assert "compiled anew" in capsys.readouterr().err
    assert answer() == [2, 2]
    assert not capsys.readouterr().err


TRAINS = "import sys; from dsac.train import main; sys.exit(main(sys.argv[1:]))"


@faults
@needs_compiler
@pytest.mark.timeout(7200)
def test_kills_at_random_times_of_a_compilation_cost_no_later_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches whatever torch leaves half done at some stage: source, objects, headers, entries, locks."""
    draw, kills, cache = random.Random(5), 12, tmp_path / "cache"
    words = [*small_words(tmp_path / "whole", "sac"), "accelerate=compile"]
    monkeypatch.setenv(compiler_cache.VARIABLE, str(tmp_path / "other"))
    began = time.monotonic()
    assert main(words) == exit_codes.FINISHED
    seconds = time.monotonic() - began
    monkeypatch.setenv(compiler_cache.VARIABLE, str(cache))
    for _ in range(kills):
        words = [*small_words(tmp_path / "killed", "sac"), "accelerate=compile"]
        process = subprocess.Popen([sys.executable, "-c", TRAINS, *words], start_new_session=True)
        time.sleep(draw.uniform(0.2, 1.5) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = [*small_words(tmp_path / "last", "sac"), "accelerate=compile"]
    done = subprocess.run([sys.executable, "-c", TRAINS, *last], check=False)
    assert done.returncode == exit_codes.FINISHED
    assert_same(final_state(only_run(tmp_path / "last")), final_state(only_run(tmp_path / "whole")))


DAMAGE: dict[str, Callable[[Path], list[Path]]] = {
    "libraries": lambda cache: [*cache.rglob("*.so")],
    "sources": lambda cache: [path for kind in ("py", "cpp", "h") for path in cache.rglob(f"*.{kind}")],
    "headers": lambda cache: [*cache.rglob("*.gch"), *cache.rglob("*.so")],
    "entries": lambda cache: [path for path in cache.glob("*/fxgraph/**/*") if path.is_file()],
    "all": lambda cache: [path for path in cache.rglob("*") if path.is_file()],
}


@faults
@needs_compiler
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_what_torch_keeps_may_be_cut_short(kind: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a file of the compiler's that ends every start once it is cut short."""
    monkeypatch.setenv(compiler_cache.VARIABLE, str(tmp_path / "cache"))
    for index in range(2):
        words = [*small_words(tmp_path / str(index), "sac"), "accelerate=compile"]
        done = subprocess.run([sys.executable, "-c", TRAINS, *words], check=False)
        assert done.returncode == exit_codes.FINISHED
        damaged = DAMAGE[kind](tmp_path / "cache")
        assert damaged
        for path in damaged:
            os.truncate(path, int(share * path.stat().st_size))
    assert_same(final_state(only_run(tmp_path / "1")), final_state(only_run(tmp_path / "0")))
