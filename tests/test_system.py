"""What differs between operating systems: Linux's answers beside those for every POSIX system, which run here too."""

from __future__ import annotations

import ast
import fcntl
import os
import signal
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import mujoco
import numpy as np
import pytest
from small_runs import only_run, small_words

import envs
from envs import system
from envs.native import libmujoco

ROOT = Path(__file__).parent.parent
PORTABLE = Path(__file__).parent / "portable"
LINUX_ONLY = {"sched_getaffinity", "sched_setaffinity", "prctl", "memfd_create", "posix_fallocate", "pidfd_open"}
# Asked in words of the system, or found nowhere but on Linux.
QUESTIONS = LINUX_ONLY | {"platform.system", "sys.platform", "os.uname", "fcntl", "getrusage"}
on_linux = pytest.mark.skipif(not system.LINUX, reason="this is not Linux")
both = pytest.mark.parametrize("linux", [pytest.param(True, marks=on_linux), False])


@pytest.fixture(autouse=True)
def answers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers as on Linux or as elsewhere, where the test has both."""
    if "linux" in request.fixturenames:
        monkeypatch.setattr(system, "LINUX", request.getfixturevalue("linux"))


@both
def test_every_system_tells_of_its_machine(linux: bool):
    """Catches a question that raises, or answers in other units, where there is no /proc."""
    assert 1 <= system.available_cores() <= (os.cpu_count() or 1)
    assert system.processor()
    assert linux or system.processor_flags() == ""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < system.available_memory() <= machine
    before = system.resident_bytes()
    block = np.ones(50_000_000 // 8)  # 50 MB
    assert 10_000_000 < before < machine
    assert before <= system.resident_bytes() < before + 4 * block.nbytes


@both
def test_the_engine_finds_the_library_of_the_bindings(linux: bool):
    """Catches a lookup without /proc that finds nothing, or another library than the one that Python uses."""
    found = libmujoco.library_path()
    assert found.resolve().parent == Path(mujoco.__file__).resolve().parent
    assert libmujoco.load_library().mj_version() == mujoco.mj_version()


def test_both_answers_step_alike(monkeypatch: pytest.MonkeyPatch):
    """Catches threads, or anything else of the system's, that reach the numbers."""
    steps = []
    for linux in (system.LINUX, False):
        monkeypatch.setattr(system, "LINUX", linux)
        engine = envs.make("Hopper", 4, seed=0)
        actions = np.random.default_rng(0).uniform(-1, 1, (100, 4, engine.spec.action_dim)).astype(np.float32)
        steps.append([engine.step(action) for action in actions])
        engine.close()
    for ours, theirs in zip(*steps, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)


CHILD = "import sys, time; from envs import system; system.LINUX = sys.argv[2] == 'True'\n"
CHILD += "system.end_with_parent(int(sys.argv[1])); print('ready', flush=True); time.sleep(20); print('survived')"
PARENT = "import os, subprocess, sys\n"
PARENT += "child = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid()), sys.argv[2]], stdout=1)\n"
PARENT += "print(child.pid, flush=True); child.wait()"


@both
def test_a_process_ends_with_the_one_that_started_it(linux: bool):
    """Catches a run that trains on, and holds its folder's lock, after its sweep was killed."""
    command = [sys.executable, "-c", PARENT, CHILD, str(linux)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    lines = [parent.stdout.readline().strip() for _ in range(2)]
    child = int(next(line for line in lines if line != "ready"))
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # returns when the child, which has the pipe too, has ended


def test_a_lock_is_one_process_deep(tmp_path: Path):
    """Catches a lock that two have, and a shared one that keeps another reader out."""
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as two:
        assert system.lock_file(one)
        assert not system.lock_file(two)
        assert not system.lock_file(two, shared=True)
        assert system.lock_file(one, shared=True)
        assert system.lock_file(two, shared=True)


@pytest.mark.parametrize("refused", [False, True])
def test_a_mac_flushes_its_disk(refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Catches a checkpoint that is in a Mac's drive but not on its disk, and a network disk that knows no such call."""
    calls = []

    def control(descriptor: int, call: int) -> None:
        calls.append(call)
        if refused:
            raise OSError

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    with (tmp_path / "file").open("w") as file:
        system.flush(file.fileno())
    assert calls == ([51, "fsync"] if refused else [51])


def mach_o() -> bytes:
    """A library as a Mac has it: a header, two segments and a command that is none, then what they hold."""

    def segment(name: bytes, begin: int, size: int) -> bytes:
        return struct.pack("<II16sQQQQIIII", 0x19, 72, name, 0, 4096, begin, size, 5, 5, 0, 0)

    commands = segment(b"__TEXT", 0, 400) + struct.pack("<II8s", 0x1B, 16, b"") + segment(b"__LINKEDIT", 400, 100)
    header = struct.pack("<4sIIIIIII", b"\xcf\xfa\xed\xfe", 0x0100000C, 0, 6, 3, len(commands), 0, 0)
    return (header + commands).ljust(500, b"\1")


def elf() -> bytes:
    return Path(next(Path(sysconfig.get_path("platlib"), "numpy").rglob("*.so"))).read_bytes()


@pytest.mark.parametrize("library", [mach_o, pytest.param(elf, marks=on_linux)])
def test_a_library_that_is_cut_short_is_noticed(library, tmp_path: Path):
    """Catches a compiled file that ends the process when it is loaded, and one of a Mac that is never believed."""
    path, content = tmp_path / "library.so", library()
    for size, whole in ((len(content), True), (len(content) - 1, False), (70, False), (20, False), (0, False)):
        path.write_bytes(content[:size])
        assert system.is_whole_library(path) is whole, size
    path.write_text("no library at all".rjust(100))
    assert not system.is_whole_library(path)
    assert not system.is_whole_library(tmp_path / "missing")


def asked(path: Path) -> set[str]:
    """What a source file asks of the system: names that Linux alone has, and paths below /proc and /sys."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            found |= {node.attr, ast.unparse(node)} & QUESTIONS
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & QUESTIONS
        elif isinstance(node, ast.Constant) and str(node.value).startswith(("/proc", "/sys/", "/dev/shm")):
            found.add(str(node.value))
    return found


def test_only_one_module_asks_which_system_this_is():
    """Catches the next os.sched_getaffinity or /proc in a place that nobody tries elsewhere."""
    files = [path for part in ("dsac", "envs") for path in (ROOT / part).rglob("*.py")]
    assert {str(path.relative_to(ROOT)): asked(path) for path in files if asked(path)}.keys() == {"envs/system.py"}


def test_a_run_trains_alike_where_nothing_is_linux(tmp_path: Path):
    """Catches a training that needs Linux, and one that learns something else without it."""
    curves = []
    for name, paths in (("linux", [ROOT]), ("portable", [PORTABLE, ROOT])):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [sys.executable, "-m", "dsac.train", *small_words(tmp_path / name, "ppo")]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        lines = (only_run(tmp_path / name) / "learner-0" / "metrics.csv").read_text().splitlines()
        rows = [line.split(",") for line in lines]
        timed = ("rate/", "progress/wall_time")
        curves.append([(row[0], row[1], *row[3:]) for row in rows if not row[3].startswith(timed)])
    assert curves[0] == curves[1]
    assert len(curves[0]) > 10
