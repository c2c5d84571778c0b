"""A stop asked for in any phase: exit code 75, and no step is lost: the resumed run ends as the one never stopped."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import assert_same, final_state, lasting_rows, only_run, small_config, small_words, train_whole

from dsac import compilation
from dsac.callbacks import evaluator
from dsac.cli import exit_codes, signals
from dsac.cli.signals import BLOCK_SECONDS, StoppedEarly, stopping_on_signals
from dsac.persistence import atomic
from dsac.train import main
from dsac.trainer import Trainer
from dsac.updater import Updater
from envs.engine import Engine

TRIES = 20
faults = pytest.mark.faults
needs_compiler = pytest.mark.usefixtures("compiler")


class Phases:
    """Counts the calls of what each phase is made of, and sends a signal before or after one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.counts: dict[str, int] = {}
        self.at: tuple[str, int, bool] | None = None
        self.number, self.evaluating, self.warm = signal.SIGTERM, False, False
        self.sent = False
        self.taken = 0
        score, collect_block = evaluator.score, Trainer.collect_block

        def scoring(*arguments: Any) -> Any:
            self.evaluating = True
            try:
                return score(*arguments)
            finally:
                self.evaluating = False

        def collecting(trainer: Trainer, act: Any, learning: bool) -> None:
            self.warm = not learning
            collect_block(trainer, act, learning)
            self.taken = trainer.warmup_env_steps + trainer.env_steps

        patch.setattr(evaluator, "score", scoring)
        patch.setattr(Trainer, "collect_block", collecting)
        patch.setattr(Engine, "step", self.counting(self.stepping, Engine.step))
        patch.setattr(Updater, "__call__", self.counting("update", Updater.__call__))
        for name in ("write_file", "publish", "sync"):
            patch.setattr(atomic, name, self.counting("saving", getattr(atomic, name)))
        patch.setattr(os, "rename", self.counting("saving", os.rename))

    def stepping(self) -> str:
        return "evaluation" if self.evaluating else "warm-up" if self.warm else "collection"

    def counting(self, phase: str | Callable[[], str], real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            name = phase() if callable(phase) else phase
            self.counts[name] = self.counts.get(name, 0) + 1
            hit = self.at is not None and not self.sent and self.at[:2] == (name, self.counts[name])
            if hit and self.at is not None and self.at[2]:
                self.send()
            result = real(*arguments, **options)
            if hit and not self.sent:
                self.send()
            return result

        return call

    def send(self) -> None:
        self.sent = True
        os.kill(os.getpid(), self.number)

    def begin(self, phase: str, call: int, before: bool, number: signal.Signals) -> None:
        """Count anew; the signal comes with this call of the phase."""
        self.counts, self.sent, self.at, self.number, self.taken = {}, False, (phase, call, before), number, 0


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> Phases:
    return Phases(monkeypatch)


@pytest.mark.parametrize("tries", [1, pytest.param(TRIES, marks=faults)], ids="{}-times".format)
@pytest.mark.parametrize("phase", ["collection", "update", "warm-up", "evaluation", "saving"])
def test_a_stop_in_any_phase_loses_nothing(
    phase: str, tries: int, finished: Path, phases: Phases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a stop that is lost, that ends the run without a save, that repeats or leaves out a step."""
    draw = random.Random(phase)
    phases.at = None
    train_whole(small_config(tmp_path / "counted"))
    calls = phases.counts[phase]
    for index in range(tries):
        number = draw.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        number = signal.SIGTERM if tries == TRIES else number
        phases.begin(phase, draw.randint(1, calls), draw.random() < 0.5, number)
        runs = tmp_path / str(index)
        code = main(small_words(runs))
        assert phases.sent
        run = only_run(runs)
        if code == exit_codes.FINISHED:
            assert phase in ("saving", "evaluation")
            assert phases.taken == 256 + 40  # it came when nothing was left to do
            continue
        assert code == exit_codes.RESUMABLE
        assert atomic.read_manifest(max((run / "checkpoints").glob("step-*")))["step"] == phases.taken
        assert f"stopped ({number.name}) and saved" in capsys.readouterr().out
        assert main([f"resume={run}"]) == exit_codes.FINISHED
        assert_same(final_state(run), final_state(finished))
        assert sorted(lasting_rows(run)) == sorted(lasting_rows(finished))


class Compilations:
    """Times each compilation of a session, and sends SIGTERM within one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.real, self.took, self.call, self.after = compilation.compiled, list[float](), -1, 0.0
        self.signalled: float | None = None
        patch.setattr(compilation, "compiled", self)

    def __call__(self, *arguments: Any) -> Any:
        began, hit = time.monotonic(), len(self.took) == self.call
        timer = threading.Timer(self.after, self.send)
        if hit:
            timer.start()
        result = self.real(*arguments)
        timer.cancel()
        if hit and self.signalled is None:
            self.send()  # it took less time than the one before
        self.took.append(time.monotonic() - began)
        return result

    def send(self) -> None:
        self.signalled = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)

    def begin(self, call: int, after: float) -> None:
        """The signal comes so many seconds into this compilation; none for -1."""
        self.took, self.call, self.after, self.signalled = [], call, after, None


@faults
@needs_compiler
@pytest.mark.timeout(7200)
def test_a_stop_while_compiling_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a signal that breaks the compiler, a compilation that is lost with the run, a stop that takes long."""
    draw, compilations, seconds = random.Random(3), Compilations(monkeypatch), []
    for index in range(TRIES + 1):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"cache-{index}"))
        words = [*small_words(tmp_path / str(index), "sac"), "accelerate=compile"]
        if index == 0:
            assert main(words) == exit_codes.FINISHED
            took, whole = compilations.took, only_run(tmp_path / "0")
            continue
        call = draw.randrange(len(took))
        compilations.begin(call, draw.uniform(0, took[call]))
        assert main(words) == exit_codes.RESUMABLE
        assert compilations.signalled is not None
        seconds.append(time.monotonic() - compilations.signalled)
        run = only_run(tmp_path / str(index))
        compilations.begin(-1, 0)
        assert main([f"resume={run}"]) == exit_codes.FINISHED
        assert_same(final_state(run), final_state(whole))
    print(f"stopped {TRIES} of {TRIES} times, the slowest after {max(seconds):.1f} s; compiled in {took}")
    assert max(seconds) < 30


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """A trainer that leads a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "dsac.train", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


def wait_for_steps(process: subprocess.Popen[str]) -> None:
    """Read its stderr until it tells of env steps."""
    assert process.stderr is not None
    while "env steps" not in process.stderr.readline():
        assert process.poll() is None


def group(process: subprocess.Popen[str]) -> list[int]:
    """The processes of its group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def long_words(tmp_path: Path) -> list[str]:
    """A run that does not end by itself."""
    words = small_words(tmp_path / "runs", "sac", "total_env_steps=1e9", "algo.warmup_env_steps=1e6")
    return [*words, "algo.replay_capacity=1e6", "updates_per_env_step=1"]


def test_a_second_signal_ends_the_process_at_once(long_words: list[str], tmp_path: Path):
    """Catches a save that cannot be cut short, an exit code that says nothing, and a save that is damaged by it."""
    process = started([*long_words, "algo.warmup_env_steps=40"], tmp_path)
    try:
        wait_for_steps(process)
        process.send_signal(signal.SIGSTOP)  # so that the two arrive together, before the first is dealt with
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert main([f"resume={only_run(tmp_path / 'runs')}", "total_env_steps=40"]) == exit_codes.FINISHED


@faults
@needs_compiler
@pytest.mark.parametrize("seconds", [1, 4, 8])
def test_ctrl_c_to_a_group_that_compiles_leaves_no_orphan(seconds: float, long_words: list[str], tmp_path: Path):
    """Catches compilers that outlive the trainer, and a traceback of each of them."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "cache")
    try:
        process = started([*long_words, "accelerate=compile", "algo.warmup_env_steps=40"], tmp_path)
    finally:
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("run ")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, len(re.findall("Traceback", err))) == (exit_codes.RESUMABLE, 0), err
    time.sleep(1)
    assert group(process) == []


HANG = """
import sys, time
from dsac.collection import collector
from dsac.train import main
collect, calls = collector.Collector.collect, 0
def hanging(self, *arguments, **options):
    global calls
    calls += 1
    {what}
    return collect(self, *arguments, **options)
collector.Collector.collect = hanging
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("time.sleep(4 if calls == 30 else 0)", exit_codes.FINISHED),
        ("import ctypes; calls < 30 or ctypes.string_at(0)", -signal.SIGSEGV),
    ],
    ids=["hang", "segfault"],
)
def test_stacks_of_a_hang_and_of_a_fault_are_kept(what: str, code: int, tmp_path: Path):
    """Catches a run that hangs or dies without a trace of where."""
    words = small_words(tmp_path / "runs", "sac", "stall_seconds=1")
    done = subprocess.run(
        [sys.executable, "-c", HANG.format(what=what), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    stacks = (only_run(tmp_path / "runs") / "stacks.log").read_text()
    assert "in hanging" in stacks
    assert ("Timeout" in stacks) is (code == 0)


MUTEX = "import ctypes; lock = ctypes.CDLL(None).pthread_mutex_lock; room = ctypes.create_string_buffer(64)"
HANGS = {
    "in Python": "while calls == 30: time.sleep(0.1)",
    "in C, deaf to signals": f"{MUTEX}; [lock(room) for _ in range(2 if calls == 30 else 0)]",
    "in Python, that swallows what is raised": """
    while calls == 30:
        try: time.sleep(0.1)
        except BaseException: pass""",
}


@pytest.mark.parametrize("where", HANGS)
def test_an_environment_that_hangs_is_ended_after_one_signal(where: str, tmp_path: Path):
    """Catches a process that no scheduler's SIGTERM ends, since the block that it waits for never does."""
    what = f"if calls == 30: print('HERE', flush=True)\n    {HANGS[where].lstrip()}"
    words = small_words(tmp_path / "runs", "sac")
    process = subprocess.Popen(
        [sys.executable, "-c", HANG.format(what=what), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while "HERE" not in process.stdout.readline():
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, error
    assert time.monotonic() - began > BLOCK_SECONDS - 1
    (line,) = (line for line in error.splitlines() if line.startswith("error: "))
    run = only_run(tmp_path / "runs")
    assert all(word in line for word in ("SIGTERM", "resume=", str(run / "stacks.log"))), line
    assert "in hanging" in (run / "stacks.log").read_text()
    assert main([f"resume={run}"]) == exit_codes.FINISHED


class Slow:
    """A trainer whose block takes long; something in it moves, or nothing does."""

    def __init__(self, moves: bool) -> None:
        self.patience, self.moves, self.asked = 0.5, moves, ""

    def stop(self, reason: str) -> None:
        self.asked = reason

    def signs(self) -> tuple[Any, ...]:
        return (object(),) if self.moves else (self.patience,)


def ended(process: Callable[[], int]) -> int:
    """The exit code of a function in a process of its own."""
    child = os.fork()
    if child == 0:
        os._exit(process())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("moves", "code"), [(True, 0), (False, 128 + signal.SIGTERM)])
def test_a_long_block_that_moves_is_waited_for(moves: bool, code: int):
    """Catches a deadline that ends an environment which is slow, and one that ends nothing."""

    def process() -> int:
        trainer = Slow(moves)
        with stopping_on_signals() as stopping:
            stopping.attend(trainer)
            signal.raise_signal(signal.SIGTERM)
            time.sleep(2)
        return 0 if trainer.asked == "SIGTERM" else 1

    assert ended(process) == code


def test_a_signal_to_a_forked_worker_is_not_the_trainers(monkeypatch: pytest.MonkeyPatch):
    """Catches a pool of workers, ended with SIGTERM by an environment, that takes the trainer along."""
    monkeypatch.setattr(signals, "LONG_SECONDS", 0.3)

    def worker() -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return 7

    def process() -> int:
        with stopping_on_signals():
            code = ended(worker)
            time.sleep(1)
            return code

    assert ended(process) == 7


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(number: int):
    """Catches an overnight run under nohup that ends at the logout, and one in the background that Ctrl-C ends."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stopping_on_signals() as stopping:
            signal.raise_signal(number)
            assert stopping.asked is None
            with pytest.raises(StoppedEarly, match="SIGTERM"):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
