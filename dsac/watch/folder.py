"""The runs below a folder: new ones are looked for now and then, known ones at each look."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dsac.cli.progress import following
from dsac.watch.run_state import ORDER, RunState, Watched
from envs.system import locked_files

SEARCH_SECONDS = 10.0  # between two searches for new folders
QUIET_SECONDS = 2.0  # of the first look, which reads everything
LEVELS = 6  # below the folder; <runs>/<env>/<algo>/<run> are three


class Folder:
    """A folder with runs at or below it."""

    def __init__(self, root: Path) -> None:
        self.root, self.searched, self.looked = root, -math.inf, False
        self.runs: dict[Path, Watched] = {}

    def look(self) -> list[RunState]:
        """Every run as it stands: those in training first, then by name."""
        if time.monotonic() - self.searched >= SEARCH_SECONDS:
            self.searched = time.monotonic()
            found = list(folders_of_runs(self.root))
            self.runs = {path: self.runs.get(path) or Watched(path, self.name_of(path)) for path in found}
        locked, now = locked_files(), time.time()
        runs = self.runs.values()
        looked = runs if self.looked else following("reading runs", runs, len(runs), quiet_seconds=QUIET_SECONDS)
        states = [run.look(locked, now) for run in looked]
        self.looked = True
        return sorted(states, key=lambda one: (ORDER.index(one.state), one.run))

    def name_of(self, path: Path) -> str:
        """What a run is called: its path below the folder, or the name of the folder itself."""
        return path.name if path == self.root else str(path.relative_to(self.root))


def folders_of_runs(place: Path, levels: int = LEVELS) -> Iterator[Path]:
    """The folders at or below a place that hold a config.yaml; hidden ones, links and what a run holds are left out."""
    try:
        with os.scandir(place) as entries:
            inner = sorted(entry.name for entry in entries if usable(entry))
    except OSError:
        return
    if "config.yaml" in inner:
        yield place
    elif levels:
        for name in inner:
            yield from folders_of_runs(place / name, levels - 1)


def usable(entry: os.DirEntry[str]) -> bool:
    """Whether an entry may be, or hold, a run: its config, or a folder that is neither hidden nor a link."""
    if entry.name == "config.yaml":
        return True
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
