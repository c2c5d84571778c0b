"""Films of the best policies, for the report."""

from __future__ import annotations

import base64
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from dsac.cli.progress import following
from dsac.compare.cells import number
from dsac.compare.comparison import listed
from dsac.compare.page.views import Part
from dsac.compare.results import Run
from dsac.errors import ConfigError
from dsac.runs.saved_config import saved, saved_env

FILM_SIZE, FILM_SECONDS = (400, 300), 15
FILM_SEED = 1_000_000  # that of dsac.evaluate


Film = tuple[str, str]  # a data URI and its caption


def best_films(parts: Sequence[Part], modules: Mapping[str, str]) -> tuple[dict[str, list[Film]], list[str]]:
    """For each task films of the best policies of the groups in colour, and why others are missing."""
    wanted = [(part, index) for part in parts for index in part.views[0].told]
    made: dict[str, list[Film]] = {part.env: [] for part in parts}
    missing: dict[str, list[str]] = defaultdict(list)
    for part, index in following("films", wanted, len(wanted)):
        best = max(part.groups[index].runs, key=lambda run: run.returns.max())
        called = part.views[0].called[index]
        try:
            source = "data:video/mp4;base64," + base64.b64encode(film_of(best, modules)).decode()
        except Exception as error:  # a page without a film is better than none
            missing[str(error)].append(f"{part.env} {called}")
        else:
            caption = f"{called}, seed {best.seed}, its best evaluation: {number(float(best.returns.max()))}"
            made[part.env].append((source, caption))
    return made, [f"No film: {reason} ({listed(called)})" for reason, called in missing.items()]


def film_of(run: Run, modules: Mapping[str, str]) -> bytes:
    """The first FILM_SECONDS of an episode of a run's best policy, as an mp4. Raises what keeps it from being made."""
    from dsac.collection.worlds import make_worlds
    from dsac.evaluation import film
    from dsac.persistence.policies import read_policy

    if run.folder is None:
        raise ConfigError("the run was read from a committed folder, which holds no policies")
    film.choose_renderer()
    env_config = saved_env(saved(run.folder, modules, uses=("env",)), modules)
    policy, _ = read_policy(run.folder, "best", run.learner)
    worlds = make_worlds(env_config, 1, FILM_SEED, "env")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        try:
            pictures = film.frames(policy, worlds, FILM_SEED, FILM_SIZE)
            film.write_mp4(path, islice(pictures, FILM_SECONDS * film.FRAMES_PER_SECOND))
        finally:
            worlds.close()
        return path.read_bytes()
