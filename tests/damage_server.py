"""A process that has imported and compiled everything, and forks for each command: python tests/damage_server.py

Each line on stdin is a request, each line on stdout what became of it. A command that hangs or grows is ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10.0  # of the processor; also of waiting without using it
MOST_SECONDS = 60.0  # on the clock, however busy the machine is
MEMORY = 512 << 20  # bytes beyond what the imports take, which with torch are about as many
ADDRESSES = 2 << 30  # beyond those of the parent: what asks for more is refused by the system
POLL = 0.005


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), or that it had to be ended; bytes at most."""

    code: int
    hung: bool
    seconds: float
    grown: int
    out: str
    err: str


class Server:
    """The parent, from the side of a test."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", "the server did not start: see its stderr"

    def run(self, verb: str, words: list[str], folder: Path, **options: Any) -> Ended:
        """Run a command in folder/work and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"verb": verb, "words": words, "folder": str(folder), **options}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the server has ended: see its stderr"
        said = [Path(folder, "said", name).read_text(errors="replace") for name in ("out", "err")]
        return Ended(*json.loads(answer), *said)

    def close(self) -> None:
        """End the parent."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Answer requests, one at a time."""
    import dsac.export.write
    import envs.engine
    from dsac.algorithms import load, names
    from dsac.callbacks import checkpointer, logger
    from dsac.evaluation import scoring
    from dsac.runs import record, session

    assert all((dsac.export.write, envs.engine, scoring, logger, checkpointer, session, [load(one) for one in names()]))
    for module in ("onnx", "dsac.sweep.runner", "dsac.compare", "dsac.sweep.view", "dsac.export"):
        importlib.import_module(module)
    record.revision = lambda: None  # asking git takes longer than a small run
    checkpointer.RETRY_SECONDS = (
        0.2  # a save that failed at the end is tried once more a minute later, which is no hang
    )
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder))
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread would not live on in a fork"
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        (folder / "said").mkdir(exist_ok=True)
        child = os.fork()
        if child == 0:
            carry_out(request, folder)
        print(json.dumps(watched(child)), flush=True)


def warm_up(folder: Path) -> None:
    """Compile, and build what is built once in a process."""
    from damaged_runs import base_words

    from dsac import train

    here = Path.cwd()
    os.chdir(folder)
    said = os.dup(1)
    os.dup2(2, 1)
    try:
        for base in ("off", "ppo"):
            assert train.main(base_words(base)) == 0
    finally:
        os.dup2(said, 1)
        os.chdir(here)


def carry_out(request: dict[str, Any], folder: Path) -> None:
    """In the child: the command, with its words on the disk; does not return."""
    os.setsid()
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        os.dup2(os.open(folder / "said" / name, flags | os.O_CREAT | os.O_TRUNC), number)
    code = 1
    try:
        tempfile.tempdir = str(folder / "tmp")
        os.chdir(folder / "work")
        sys.path.insert(0, str(folder / "path"))
        sizes = Path("/proc/self/statm").read_text().split()
        most = int(sizes[0]) * resource.getpagesize() + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
        if chunk := request.get("chunk_bytes"):
            from dsac.memory import frame_log
            from dsac.persistence import replay_segments

            frame_log.CHUNK_BYTES = replay_segments.CHUNK_BYTES = chunk
        code = command(request["verb"])(request["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def command(verb: str) -> Any:
    """The main function of a command."""
    if verb == "load":
        return load_policy
    if verb == "sweep":
        from dsac.sweep import runner

        runner.POLL_SECONDS = 0.02
        runner.Processes.start = lambda _, run: Forked(run)
    return importlib.import_module(f"dsac.{verb}").main


def load_policy(words: list[str]) -> int:
    """dsac.load_policy, its errors as a command has them."""
    import dsac
    from dsac.cli.exit_codes import with_exit_code

    return with_exit_code(lambda: (dsac.load_policy(words[0]), 0)[1])


class Forked:
    """A run of a sweep, forked where the sweep would start a process, which takes seconds."""

    def __init__(self, run: Any) -> None:
        from dsac.sweep import worker

        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / "log.txt").open("ab") as log:
            sys.stdout.flush()
            self.child = os.fork()
            if self.child == 0:
                os.dup2(log.fileno(), 1)
                sys.argv = ["dsac.sweep.worker", str(os.getppid()), str(run.folder), *run.overrides]
                code = 1
                try:
                    code = worker.main()
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(code)

    def poll(self) -> int | None:
        done, status = os.waitpid(self.child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    def stop(self) -> None:
        os.kill(self.child, signal.SIGTERM)


def watched(child: int) -> tuple[int, bool, float, int]:
    """Wait for a child, and end it and its own where it hangs: (exit code, hung, seconds, bytes that it grew by)."""
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    start = looked = moved = time.monotonic()
    busy, hung = 0.0, False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        now = time.monotonic()
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what it left running
            return os.waitstatus_to_exitcode(status), hung, now - start, max(usage.ru_maxrss * 1024 - before, 0)
        if now - looked > SECONDS / 10 and not hung:
            used, looked = processor_seconds(child), now
            if used > busy + 0.02:
                busy, moved = used, now
            if used > SECONDS or now - moved > SECONDS or now - start > MOST_SECONDS:
                hung = True
                os.killpg(child, signal.SIGKILL)
        time.sleep(POLL)


def processor_seconds(leader: int) -> float:
    """What a group of processes has used of the processor."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    serve()
