"""The cases of damage: which run, which command, which place, which way, and a number for what varies in the way.

A case is a line such as `off resume config.yaml yaml-value 17`, and everything about it follows from the line.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damage import WAYS, Spot
from damaged_data import MODULE
from made_runs import made_run
from small_runs import small_words

ALGORITHMS = {"off": "sac", "ppo": "ppo"}
RUN = "20260101-000000-seed0"
WORDS = ("accelerate=eager", "device=cpu", "total_env_steps=128", "eval_every_env_steps=64", "env.max_episode_steps=30")
SOON = ("total_env_steps=132",)
FILE = ("cut", "flip", "noise", "splice", "huge", "locked-away", "gone", "pipe", "device", "link", "moved", "folder")
FOLDER = ("gone", "pipe", "device", "link", "moved", "folder", "text", "locked-away")
ABSENT = ("pipe", "device", "link", "moved", "folder", "text")
# Ways that vary much come more often.
YAML = ("yaml-value",) * 12 + ("yaml-name",) * 4
YAML += ("yaml-whole", "yaml-key", "yaml-drop", "yaml-module", "yaml-algorithm") * 2
JSON = ("json-whole", "json-value")
STATE = ("state-whole", *("state-value",) * 4)
ARRAYS = (*("array",) * 3, "array-header")
RECORD = ("manifest-value", "manifest-step", "manifest-names", "manifest-words") * 2
OF_A_CONFIG = ("manifest-config", "manifest-config", "manifest-module", "manifest-algorithm")
NEVER_THERE = (
    "learner-abc", "learner-", "learner--1", "learner-²", "learner-7", "learner-999999999999", "checkpoints/.step-1",
    "checkpoints/step-x", "checkpoints/step-", "checkpoints/step-²", "checkpoints/step-7",
    "checkpoints/step-" + "9" * 200,
    "checkpoints/.step-7.partial", "checkpoints/.step-7.replaced", "checkpoints/.step-7.removed",
    "checkpoints/damaged-{newest}", "checkpoints/.{newest}.replaced", "checkpoints/.{next}.partial",
    "checkpoints/{next}", "checkpoints/segments/x", "checkpoints/segments/000000000099.safetensors",
    ".config.yaml.partial", ".run.json.partial", "stacks.log", "snapshots", "learner-0/.best.partial",
    "learner-0/.last.partial", "learner-0/.last.replaced", "learner-0/.last.removed", "learner-0/calibration.json",
    "learner-0/best.mp4", "learner-0/export-best", "evaluations.csv", "runs.json", "../.sweep", "../{run}-2",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command line, {run} and {words} to be put in, and what it may write to below the folder that it runs in."""

    verb: str
    words: tuple[str, ...]
    writes: tuple[str, ...] = ()


OWN = "runs/InvertedPendulum/{algo}/" + RUN
COMMANDS = {
    "resume": Command("train", ("resume={run}", *SOON), (OWN,)),
    "auto": Command("train", ("resume=auto", "{words}", *SOON), ("runs",)),
    "init": Command("train", ("init_from={run}", "{words}", "runs=new", "total_env_steps=8"), ("new",)),
    "evaluate": Command("evaluate", ("run={run}", "episodes=2")),
    "evaluate-last": Command("evaluate", ("run={run}", "episodes=2", "which=last")),
    "export": Command("export", ("run={run}", "episodes=0", "rows=256", "out=out"), ("out",)),
    "compare": Command("compare", ("runs=runs", "curves=false", "out=out"), ("out",)),
    "sweep": Command("sweep", ("{words}", "seeds=0"), ("runs",)),
    "load": Command("load", ("{run}",)),
}
READ_BY = {  # commands that look at a place, by how it begins; all of them where none fits
    "checkpoints": ("resume", "auto", "init", "sweep"),
    "learner-0/best": ("evaluate", "export", "load", "resume"),
    "learner-0/last": ("evaluate-last", "resume"),
    "learner-0": ("resume", "compare", "sweep", "auto"),
    "run.json": ("resume", "auto", "compare", "sweep"),
    "lock": ("resume", "auto", "sweep"),
    ".": ("resume", "auto"),
    "stacks.log": ("resume",),
}


@dataclass(frozen=True)
class Case:
    """One damage and one command."""

    base: str
    command: str
    target: str
    way: str
    number: int

    def __str__(self) -> str:
        return f"{self.base} {self.command} {self.target} {self.way} {self.number}"

    @staticmethod
    def of(line: str) -> Case:
        base, command, target, way, number = line.split()
        return Case(base, command, target, way, int(number))


def base_words(base: str) -> list[str]:
    """The words of the run of a base, which lies in runs/ of the folder where commands run."""
    words = [*small_words(Path("runs"), ALGORITHMS[base]), *WORDS]
    return list({word.partition("=")[0]: word for word in words}.values())


def words_of(case: Case) -> tuple[str, list[str]]:
    """The verb and the words of a case's command."""
    command = COMMANDS[case.command]
    run, words = OWN.format(algo=ALGORITHMS[case.base]), list[str]()
    for word in command.words:
        words += base_words(case.base) if word == "{words}" else [word.format(run=run)]
    return command.verb, list({word.partition("=")[0]: word for word in words}.values())


def prepare(made: Path, case: Case, folder: Path) -> Path:
    """Lay out the folder of a case from the runs in `made`, with the damage done; the folder where the command runs.

    work/ with the run in it, outside/ and path/ that nothing may touch, tmp/.
    """
    work, outside = folder / "work", folder / "outside"
    shutil.copytree(made / case.base, work)
    run = work / OWN.format(algo=ALGORITHMS[case.base])
    if case.command == "compare":
        shutil.copytree(made / "good", work / "runs" / "good")
    (outside / "folder" / "inner").mkdir(parents=True)
    for place in ("file.txt", "folder/file.txt", "folder/inner/file.txt"):
        (outside / place).write_text("Nothing may touch this.\n")
    shutil.copy(run / "config.yaml", outside / "config.yaml")
    shutil.copytree(checkpoints(run)[-1], outside / "step")
    (folder / "path" / "theirs").mkdir(parents=True)
    trace = f"open({str(outside / 'imported')!r}, 'w').close()\n"
    for name in ("__init__", MODULE.partition(".")[2]):
        (folder / "path" / "theirs" / f"{name}.py").write_text(trace)
    (folder / "tmp").mkdir()
    WAYS[case.way](Spot(run, case.target, outside, random.Random(str(case))))
    return work


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def keep_base(built: Path, made: Path, base: str) -> None:
    """Put a run that was just made into its place among the bases, under a name that does not tell the time."""
    (run,) = built.glob("runs/*/*/*/config.yaml")
    place = made / base / OWN.format(algo=ALGORITHMS[base])
    place.parent.mkdir(parents=True)
    shutil.move(run.parent, place)


def keep_good(made: Path) -> None:
    """A run beside the damaged one that a comparison must not lose."""
    made_run(made / "good", "td3", env="Hopper")


def all_cases(made: Path) -> list[tuple[str, str, str, str]]:
    """(base, command, target, way) of everything that can be damaged."""
    return [(base, command, target, way) for base in ALGORITHMS for target, way in damages(made, base)
            for command in readers(target)]  # fmt: skip


def readers(target: str) -> tuple[str, ...]:
    """The commands that may look at a place."""
    if target == f"../{RUN}":
        return tuple(COMMANDS)
    found = next((READ_BY[start] for start in READ_BY if target.startswith(start)), tuple(COMMANDS))
    compared = target in ("evaluations.csv", "runs.json") or target.startswith(("learner-", ".."))
    return tuple(dict.fromkeys((*found, *(("compare",) if compared else ()))))


def damages(made: Path, base: str) -> Iterator[tuple[str, str]]:
    """(target, way) of a base."""
    run = made / base / OWN.format(algo=ALGORITHMS[base])
    yield from ((f"../{RUN}", way) for way in FOLDER if way not in ("link", "moved"))  # the whole; it may lie elsewhere
    for path in sorted(run.rglob("*")):
        target = str(path.relative_to(run))
        if path.is_dir():
            yield from ((target, way) for way in FOLDER)
            continue
        ways: tuple[str, ...] = FILE
        if path.name == "manifest.json":
            ways += (*RECORD, *(OF_A_CONFIG if "checkpoints" in path.parts else ()))
        ways += YAML if path.suffix == ".yaml" else JSON if path.suffix == ".json" else ()
        ways += STATE if path.name == "state.json" else ARRAYS if path.suffix == ".safetensors" else ()
        ways += ("rows",) * 5 if path.name == "metrics.csv" else ()
        yield from ((target, way) for way in ways)
    newest = checkpoints(run)[-1].name
    following = f"step-{int(newest.removeprefix('step-')) + 4:012d}"
    for name in NEVER_THERE:
        target = name.format(newest=newest, next=following, run=RUN)
        if (run / target).parent.is_dir():
            yield from ((target, way) for way in ABSENT)


def drawn(made: Path, seed: int, count: int) -> list[Case]:
    """So many cases at random: each combination once, then again and again those whose way is never twice the same."""
    draw, combinations = random.Random(seed), all_cases(made)
    found: list[Case] = []
    while len(found) < count:
        draw.shuffle(combinations)
        found += [Case(*combination, draw.randrange(1 << 30)) for combination in combinations[: count - len(found)]]
        combinations = [combination for combination in combinations if combination[3] not in (*FOLDER, *FILE)]
    return found


def few_of_each_way(made: Path, seed: int, count: int) -> list[Case]:
    """So many cases of each way to damage, at random."""
    cases = drawn(made, seed, len(all_cases(made)))
    return [case for way in WAYS for case in [case for case in cases if case.way == way][:count]]


def seen(folder: Path) -> dict[str, Any]:
    """Everything below a folder by its path: what it is, and for a file its size, time and content."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            facts = path.lstat()
            kind = stat.S_IFMT(facts.st_mode)
            entry: tuple[Any, ...] = (kind, stat.S_IMODE(facts.st_mode))
            if stat.S_ISLNK(kind):
                entry = (kind, str(path.readlink()))
            elif stat.S_ISREG(kind):
                small = facts.st_size < 1 << 24
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
                entry += (facts.st_size, facts.st_mtime_ns, digest)
            found[str(path.relative_to(folder))] = entry
    return found


def touched(before: dict[str, Any], after: dict[str, Any], case: Case) -> list[str]:
    """What is other than it was, outside of what the command may write to."""
    places = [f"work/{place.format(algo=ALGORITHMS[case.base])}" for place in COMMANDS[case.command].writes]
    return sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
        and not any(path == place or path.startswith(f"{place}/") for place in places)
        and not path.startswith("tmp/")
    )
