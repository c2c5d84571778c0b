"""What the files of a run say of how far it is, read again only where they changed.

A folder may come from anyone: what does not fit makes one run unreadable, with the reason, and never stops the others.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsac.errors import ConfigError, FileError
from dsac.runs.metrics import SCORE, numbers, parsed
from dsac.runs.run_files import RATES, settings_of
from dsac.schema.files import LARGEST_LINE, plain_file, read_json
from dsac.schema.plain_data import misfit
from dsac.schema.plain_text import on_screen

TRAINING, FAILED, UNREADABLE, STOPPED, FINISHED = "training", "failed", "unreadable", "stopped", "finished"
ORDER = (TRAINING, FAILED, UNREADABLE, STOPPED, FINISHED)
FACTS = ("env.name", "algo.name", "seed", "learners", "total_env_steps")  # all that is kept of a config
SESSIONS = {"sessions": [{"ended?": {"exit_code": (int, None), "env_steps": int}}]}
MOST_READ = 4 << 20  # bytes at the end of a long metrics.csv that are looked at
MOST_DIGITS, MOST_LEARNERS = 16, 1000
MOST_POINTS = 128  # of a curve that are kept, at least half of them
QUIET_SECONDS = 120.0  # after which a run that writes nothing and holds no lock here is taken for ended
WHY = {
    1: "a defect of the program ended it", 3: "its environment failed", 4: "its numbers were no longer finite",
    5: "its files could not be read or written", 6: "the machine had no room for it",
}  # fmt: skip
STOPS = {0: "", 75: "resumable", 130: "interrupted"}


@dataclass(frozen=True)
class RunState:
    """A run as it stood at one look. All texts can be printed.

    why           of what is stopped, failed or unreadable
    rates         env steps and updates a second of one learner, as last logged
    seconds_left  at its pace so far; None where that is not known, or nothing is left
    curve         means over the learners of the evaluations, some left out of many; score: the last one
    """

    run: str
    state: str
    why: str = ""
    env: str = ""
    algo: str = ""
    seed: int | None = None
    env_steps: int = 0
    total_env_steps: int = 0
    rates: Mapping[str, float] | None = None
    seconds_left: float | None = None
    curve: tuple[float, ...] = ()
    score: float | None = None

    def facts(self) -> dict[str, Any]:
        """As --json prints it."""
        return asdict(self)


class Curve:
    """What a metrics.csv told so far; only what was appended is read."""

    def __init__(self) -> None:
        self.offset, self.env_steps, self.wall_time = 0, 0, 0.0
        self.points: list[float] = []
        self.latest: tuple[float, float] | None = None  # env steps and mean return of the last evaluation
        self.rates: dict[str, float] = {}

    def update(self, path: Path) -> bool:
        """Read what is new; False where the file is not the one that was read before, so that all is to be read anew.

        Raises FileError, OSError.
        """
        with plain_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < self.offset:
                return False
            start = max(self.offset, size - MOST_READ)
            file.seek(start)
            block, end, rest = file.read(size - start).rpartition(b"\n")
        if len(rest) > LARGEST_LINE:
            raise FileError(f"{path}: a line without an end")
        if start > self.offset:
            block = block.partition(b"\n")[2]
        evaluations = numbers(b"\n" + block + end, SCORE, path)
        last = block.rpartition(b"\n")[2].split(b",")
        if len(evaluations) and self.latest and evaluations[0, 0] < self.latest[0]:
            return False
        self.offset = size - len(rest)
        if len(evaluations):
            self.latest = float(evaluations[-1, 0]), float(evaluations[-1, 3])
            self.points += evaluations[:, 3].tolist()
            while len(self.points) > MOST_POINTS:
                self.points = self.points[::2]
        for key, tag in RATES.items():
            if (at := block.rfind(f",{tag},".encode())) >= 0:
                row = block[block.rfind(b"\n", 0, at) + 1 : at + LARGEST_LINE].partition(b"\n")[0]
                self.rates[key] = parsed(row, tag, path)[3]
        if last[0].isdigit() and len(last[0]) < MOST_DIGITS and len(last) == 5:
            self.env_steps, self.wall_time = int(last[0]), plain_number(last[2])
        return True


def plain_number(text: bytes) -> float:
    """A number of a row; 0 for what is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


class Watched:
    """A run folder that is looked at again and again; `name` is what it is called."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.problem = folder, on_screen(name), ""
        self.stamps: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.ended: Mapping[str, Any] | None = None
        self.curves: dict[int, Curve] = {}

    def look(self, locked: Collection[str], now: float) -> RunState:
        """How far it is. locked: the files that processes of this machine have locked, as `locked_files` names them."""
        stamps = {name: stamp_of(self.folder / name) for name in self.files()}
        if stamps != self.stamps:
            before, self.problem = {} if self.problem else self.stamps, ""
            try:
                self.read({name for name, stamp in stamps.items() if stamp != before.get(name)})
            except (ConfigError, FileError, OSError) as error:
                self.problem = on_screen(error).replace(f"{self.folder}{os.sep}", "") or type(error).__name__
            self.stamps = {
                name: stamp_of(self.folder / name) if name not in stamps else stamps[name] for name in self.files()
            }
        if self.problem or not self.settings:
            return RunState(self.name, UNREADABLE, self.problem)
        state, why = self.ending(locked, now)
        return self.as_it_stands(state, why)

    def files(self) -> list[str]:
        """The files that it depends on."""
        learners = range(self.settings.get("learners", 1))
        return ["config.yaml", "run.json", *(f"learner-{learner}/metrics.csv" for learner in learners)]

    def read(self, changed: Collection[str]) -> None:
        """Read what changed. Raises ConfigError, FileError, OSError."""
        if "config.yaml" in changed or not self.settings:
            self.settings = {}
            found = settings_of(self.folder)
            if found.get("learners", 1) > MOST_LEARNERS:
                raise ConfigError(f"config.yaml: learners={found['learners']} is more than {MOST_LEARNERS:,}")
            self.settings = {key: found.get(key, 1) for key in FACTS}
            self.settings["env"] = found.get("env.id") or found.get("env.task") or found["env.name"]
        if "run.json" in changed:
            self.ended = self.read_end()
        for learner, name in enumerate(self.files()[2:]):
            path = self.folder / name
            if name in changed or learner not in self.curves:
                curve = self.curves.setdefault(learner, Curve())
                try:
                    if not curve.update(path):
                        curve = self.curves[learner] = Curve()
                        curve.update(path)
                except FileNotFoundError:
                    continue  # it has just begun

    def read_end(self) -> Mapping[str, Any] | None:
        """How the newest session ended; None while it goes on, and where it was killed. Raises FileError."""
        if not (self.folder / "run.json").exists():
            return None
        found = read_json(self.folder / "run.json")
        if problem := misfit(found, SESSIONS):
            raise FileError(f"run.json: {problem}")
        ended: Mapping[str, Any] | None = found["sessions"][-1].get("ended") if found["sessions"] else None
        return ended

    def ending(self, locked: Collection[str], now: float) -> tuple[str, str]:
        """The state and why."""
        if self.ended is not None:
            code = 1 if self.ended["exit_code"] is None else self.ended["exit_code"]
            if code not in STOPS:
                return FAILED, WHY.get(code, f"exit {code}")
            return (FINISHED if code == 0 else STOPPED), STOPS[code]
        lock = stamp_of(self.folder / "lock")
        if lock and lock.lock in locked:
            return TRAINING, ""
        written = max((stamp.seconds for stamp in self.stamps.values() if stamp), default=0.0)
        if now - written < QUIET_SECONDS:
            return TRAINING, ""
        return STOPPED, "killed, or on another machine and silent"

    def as_it_stands(self, state: str, why: str) -> RunState:
        """The numbers, of the learners together."""
        curves = [self.curves[learner] for learner in sorted(self.curves)]
        known = [curve.latest[1] for curve in curves if curve.latest]
        total = int(self.settings["total_env_steps"])
        env_steps = min((curve.env_steps for curve in curves), default=0)
        pace = curves[0].wall_time / env_steps if env_steps else 0.0
        at_work = state == TRAINING
        return RunState(
            run=self.name,
            state=state,
            why=why,
            env=str(self.settings["env"]),
            algo=str(self.settings["algo.name"]),
            seed=self.settings["seed"],
            env_steps=env_steps,
            total_env_steps=total,
            rates=curves[0].rates if curves and at_work else None,
            seconds_left=max(total - env_steps, 0) * pace if at_work and pace else None,
            curve=tuple(sum(values) / len(values) for values in zip(*(curve.points for curve in curves), strict=False)),
            score=sum(known) / len(known) if known and len(known) == len(curves) else None,
        )


@dataclass(frozen=True)
class Stamp:
    """By what a file is known to be unchanged, and by what its lock is known."""

    nanoseconds: int
    size: int
    lock: str

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9


def stamp_of(path: Path) -> Stamp | None:
    """That of a plain file; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    lock = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return Stamp(found.st_mtime_ns, found.st_size, lock)
