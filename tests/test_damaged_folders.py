"""Every refusal is a line: run folders damaged in every way that we know, thousands of times, against every command.

Whatever lies in a folder, a command ends by itself within 10 s and 1 GB, with a line and an exit code that the manual
has, and touches nothing but what is its own. A case that does not is printed as a line; alone it runs again with

    DAMAGE="off resume config.yaml yaml-value 17" python -m pytest tests/test_damaged_folders.py -k few -s

and DAMAGE_SEED and DAMAGE_COUNT choose others: -m faults for many.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, Queue

import pytest
from damage_server import MEMORY, Ended, Server
from damaged_runs import (
    ALGORITHMS,
    COMMANDS,
    Case,
    base_words,
    drawn,
    few_of_each_way,
    keep_base,
    keep_good,
    prepare,
    seen,
    touched,
    words_of,
)

from dsac.cli import exit_codes

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at processes as Linux shows them"),
    pytest.mark.timeout(900),  # half a minute on an idle core; each command has a limit of its own
]
CODES = (
    exit_codes.FINISHED, exit_codes.USAGE, exit_codes.ENVIRONMENT, exit_codes.NUMERICAL, exit_codes.STORAGE,
    exit_codes.RESOURCES, exit_codes.RESUMABLE,
)  # fmt: skip
LONGEST_LINE = 4_000
CONTROL = re.compile(r"[^\n\r\t\x20-\x7e\xa0-\U0010ffff]")
LINE = re.compile("^(error|failed): .", re.MULTILINE)
STATE_WAYS = ("state-whole", "state-value", "array", "array-header")
SEED, OF_EACH_WAY, MANY = 20260101, 1, 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run for each base, and one that nothing is done to."""
    made = tmp_path_factory.mktemp("made")
    for base in ALGORITHMS:
        built = tmp_path_factory.mktemp(base)
        for folder in ("work", "tmp", "path"):
            (built / folder).mkdir()
        first = [*base_words(base), "total_env_steps=96"]  # of two sessions, as one that was stopped
        for words in (first, ["resume=auto", *base_words(base)]):
            ended = server.run("train", words, built, chunk_bytes=400)
            assert ended.code == 0, ended
        keep_base(built / "work", made, base)
    keep_good(made)
    return made


def tried(server: Server, made: Path, case: Case, folder: Path, keep: bool = False) -> tuple[list[str], Ended]:
    """What is wrong with how a command took a damage, and how it ended."""
    work = prepare(made, case, folder)
    before = seen(folder)
    ended = server.run(*words_of(case), folder)
    wrong = complaints(case, ended, work)
    wrong += [f"touched {path}" for path in touched(before, seen(folder), case) if not path.startswith("said")]
    if not keep:
        shutil.rmtree(folder)
    return wrong, ended


def complaints(case: Case, ended: Ended, work: Path) -> list[str]:
    """What is wrong with the end of a command and its words."""
    logs = [path.read_text(errors="replace") for path in work.glob("runs/.sweep/*/log.txt") if path.is_file()]
    said = "\n".join([ended.out, ended.err, *logs])
    wrong = []
    if ended.hung:
        return ["hung"]
    if ended.code not in CODES:
        wrong.append(f"exit code {ended.code}")
    if "Traceback" in said:
        wrong.append(f"traceback: {last_frame(said)}")
    elif ended.code not in (exit_codes.FINISHED, exit_codes.RESUMABLE) and not LINE.search(said):
        wrong.append("no line says what was wrong")
    if ended.grown > MEMORY:
        wrong.append(f"grew by {ended.grown >> 20} MB")
    if found := CONTROL.search(said):
        wrong.append(f"control character {found.group()!r} in its words")
    if (longest := max(map(len, said.splitlines()), default=0)) > LONGEST_LINE:
        wrong.append(f"a line of {longest} characters")
    if case.command == "compare" and ended.code != exit_codes.FINISHED:
        wrong.append("a damaged run keeps others from being compared")
    wrong += printed(work / "out")
    if case.command == "resume" and case.way in STATE_WAYS and ended.code == 0 and not only_onwards(work):
        wrong.append("began anew in the folder of the run")
    return wrong


def printed(out: Path) -> list[str]:
    """What a name has become in the files that a command wrote: code, HTML or a formula."""
    wrong = []
    for path in sorted(out.glob("*")):
        text = path.read_text(errors="replace") if path.suffix in (".h", ".md", ".csv", ".html") else ""
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text.replace("??/", "\\").replace("\\\n", ""), flags=re.DOTALL)
        if path.suffix == ".h" and "int x" in code:
            wrong.append(f"a name is code in {path.name}")
        if path.suffix in (".md", ".html") and "<script>x" in text:
            wrong.append(f"a name is HTML in {path.name}")
        if path.suffix == ".csv" and re.search(r"(^|,)\"?[=@+]", text, re.MULTILINE):
            wrong.append(f"a name is a formula in {path.name}")
    return wrong


def last_frame(said: str) -> str:
    """The last line of this program in a traceback, and its exception."""
    frames = re.findall(r'File ".*?/((?:dsac|envs)/[^"]+)", line (\d+)', said)
    errors = re.findall(r"^((?:\w+\.)*\w+(?:Error|Exception|Exists|Interrupt|Warning|Fault)\b.*)$", said, re.M)
    return f"{':'.join(frames[-1]) if frames else '?'} {errors[-1][:120] if errors else said[-200:]}"


def only_onwards(work: Path) -> bool:
    """Whether the rows of the curves are of env steps that never go back to the start."""
    (path,) = work.glob("runs/*/*/*/learner-0/metrics.csv")
    steps = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:] if line[:1].isdigit()]
    return steps == sorted(steps)


def run_all(cases: list[Case], servers: list[Server], made: Path, folder: Path) -> list[str]:
    """Try cases on several servers; the bad ones as lines."""
    waiting: Queue[tuple[int, Case]] = Queue()
    for pair in enumerate(cases):
        waiting.put(pair)
    bad: list[str] = []
    codes: Counter[int] = Counter()

    def work(server: Server) -> None:
        while True:
            try:
                number, case = waiting.get_nowait()
            except Empty:
                return
            try:
                wrong, ended = tried(server, made, case, folder / str(number))
                codes[ended.code] += 1
            except Exception as error:
                wrong = [f"could not be tried: {error!r}"]
            if wrong:
                bad.append(f'DAMAGE="{case}": {"; ".join(wrong)}')
                print(bad[-1], flush=True)

    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(work, servers))
    print(f"exit codes {dict(sorted(codes.items()))}")
    return bad


def test_an_undamaged_run_is_taken_by_every_command(server: Server, made: Path, tmp_path: Path):
    """Catches a fuzzer that damages nothing of what it looks at, since its commands fail for another reason."""
    for base in ALGORITHMS:
        for command in COMMANDS:
            case = Case(base, command, "stacks.log", "text", 0)
            wrong, ended = tried(server, made, case, tmp_path / f"{base}-{command}", keep=True)
            assert (wrong, ended.code) == ([], 0), (str(case), ended)


def test_a_few_damaged_folders(server: Server, made: Path, tmp_path: Path):
    """Catches a file that is believed: a traceback, a hang, gigabytes, a write elsewhere, or an end without a word."""
    if line := os.environ.get("DAMAGE"):
        wrong, ended = tried(server, made, Case.of(line), tmp_path / "case", keep=True)
        print(f"{tmp_path / 'case'}\ncode {ended.code}, {ended.seconds:.1f} s, grew by {ended.grown >> 20} MB")
        print(f"{ended.out}\n{ended.err}\n{wrong}")
        assert not wrong
        return
    bad = run_all(few_of_each_way(made, SEED, OF_EACH_WAY), [server], made, tmp_path)
    assert not bad, "\n".join(["", *bad])


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_many_damaged_folders(made: Path, tmp_path: Path):
    """As above, ten thousand times."""
    seed, count = int(os.environ.get("DAMAGE_SEED", SEED)), int(os.environ.get("DAMAGE_COUNT", MANY))
    servers = [Server() for _ in os.sched_getaffinity(0)]
    began = time.monotonic()
    try:
        bad = run_all(drawn(made, seed, count), servers, made, tmp_path)
    finally:
        for server in servers:
            server.close()
    print(f"seed {seed}: {count} cases in {time.monotonic() - began:.0f} s, {len(bad)} bad")
    assert not bad, "\n".join(["", *bad])
