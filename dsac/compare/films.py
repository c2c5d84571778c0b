"""Films of the best policies, for the report."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dsac.cli.progress import following
from dsac.compare.results import Run
from dsac.compare.tables import number
from dsac.compare.views import Part
from dsac.errors import ConfigError
from dsac.runs.saved_config import saved
from dsac.schema.run_config import EnvConfig
from dsac.schema.validate import read

FILM_SIZE, FILM_SECONDS = (400, 300), 15
FILM_SEED = 1_000_000  # that of dsac.evaluate


@dataclass(frozen=True)
class Films:
    """Films of a task as (data URI, caption), and why others are missing."""

    made: Sequence[tuple[str, str]] = ()
    missing: Sequence[str] = ()


def best_films(parts: Sequence[Part], modules: Mapping[str, str]) -> dict[str, Films]:
    """For each task a film of the best policy of each group that its first view tells of."""
    wanted = [(part, index) for part in parts for index in part.views[0].told]
    made: dict[str, list[tuple[str, str]]] = {part.env: [] for part in parts}
    missing: dict[str, dict[str, list[str]]] = {part.env: {} for part in parts}
    for part, index in following("films", wanted, len(wanted)):
        best = max(part.groups[index].runs, key=lambda run: run.returns.max())
        called = part.views[0].called[index]
        try:
            source = "data:video/mp4;base64," + base64.b64encode(film_of(best, modules)).decode()
        except Exception as error:  # a page without a film is better than none
            missing[part.env].setdefault(str(error), []).append(called)
        else:
            caption = f"{called}, seed {best.seed}, its best evaluation: {number(float(best.returns.max()))}"
            made[part.env].append((source, caption))
    return {
        env: Films(made[env], [f"No film of {', '.join(called)}: {reason}." for reason, called in missing[env].items()])
        for env in made
    }


def film_of(run: Run, modules: Mapping[str, str]) -> bytes:
    """The first FILM_SECONDS of an episode of a run's best policy, as an mp4. Raises what keeps it from being made."""
    from dsac.collection.worlds import make_worlds
    from dsac.evaluation import film
    from dsac.persistence.policies import read_policy

    if run.folder is None:
        raise ConfigError("the run was read from a committed folder, which holds no policies")
    film.choose_renderer()
    problems = list[str]()
    arguments = read(EnvConfig, saved(run.folder, modules, uses=("env",))["env"], "env.", problems)
    if problems:
        raise ConfigError(*problems)
    policy, _ = read_policy(run.folder, "best", run.learner)
    worlds = make_worlds(EnvConfig(**arguments), 1, FILM_SEED, "env")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        try:
            pictures = film.frames(policy, worlds, FILM_SEED, FILM_SIZE)
            film.write_mp4(path, islice(pictures, FILM_SECONDS * film.FRAMES_PER_SECOND))
        finally:
            worlds.close()
        return path.read_bytes()
