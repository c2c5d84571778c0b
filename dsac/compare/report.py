"""A comparison as one HTML page that needs no network: tables, charts to look into, films, and how to make it again.

What comes from a run folder enters the page as text: the template escapes it, the script sets it as text, and the
page's own policy allows the one script and the one style that are hashed in it, and nothing from outside.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsac.cli.progress import following
from dsac.compare import figures, tables
from dsac.compare.calibration import Calibration
from dsac.compare.commands import commands, differences
from dsac.compare.comparison import Comparison, Profile
from dsac.compare.groups import NAMES, Group
from dsac.compare.results import Run
from dsac.compare.scores import AXES, Array, curve
from dsac.compare.tables import Table
from dsac.errors import ConfigError
from dsac.runs.saved_config import saved
from dsac.schema.run_config import EnvConfig
from dsac.schema.validate import as_word, command, read

MISSING_EXTRA = "a report needs jinja2: pip install -e '.[compare]'"
PAGE = Path(__file__).parent / "page"
FILM_SIZE, FILM_SECONDS = (400, 300), 15
MOST_POINTS = 256
FILM_SEED = 1_000_000  # that of dsac.evaluate
CALIBRATED = ("mean", "return_mean", "sigma", "return_deviation")
DASHES = ("", "7 4", "2 3", "8 3 2 3")


def check() -> None:
    """Raise ConfigError where the template language is not installed."""
    if importlib.util.find_spec("jinja2") is None:
        raise ConfigError(MISSING_EXTRA)


def write(
    path: Path,
    found: Comparison,
    critics: Sequence[Calibration],
    reference: bool,
    words: Mapping[str, Any],
    modules: Mapping[str, str],
) -> Path:
    """Write the page; `words` are those of the command that makes it again, `modules` those that may be imported."""
    films = best_films(found.groups, modules) if words.get("films", True) else {}
    path.write_text(render(found, critics, reference, words, films), encoding="utf-8")
    return path


def render(
    found: Comparison,
    critics: Sequence[Calibration],
    reference: bool,
    words: Mapping[str, Any],
    films: Mapping[str, Sequence[Mapping[str, str | None]]],
) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script, style = ((PAGE / name).read_text() for name in ("report.js", "report.css"))
    policy = (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    labels, rows = differences(found.groups)
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    profile_axis = axis_of_profile(found)
    return environment.get_template("report.html").render(
        title=" · ".join(found.tasks),
        made=made_with(found.groups),
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        data=Markup(as_json(chart_data(found, profile_axis))),
        answers=[tables.answer(env, *found.of(env)) for env in found.tasks],
        remarks=found.remarks,
        tasks=[task_part(env, found, reference, films.get(env, ())) for env in found.tasks],
        profile=profile_axis if found.profiles else "",
        together=tables.together(found.overall) if found.overall else None,
        critics=tables.critics(critics) if critics else None,
        critic_tasks=list(dict.fromkeys(row.env for row in critics)),
        facts=facts(found.groups),
        labels=labels,
        differences=rows,
        commands=[{"title": f"{group.env}, {group.label}", "lines": commands(group)} for group in found.groups],
        command=command_of(words),
    )


def digest(text: str) -> str:
    """A source expression of a content security policy that allows this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_json(tree: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def task_part(
    env: str, found: Comparison, reference: bool, films: Sequence[Mapping[str, str | None]]
) -> dict[str, Any]:
    """A task's part of the page."""
    groups, summaries, pairs = found.of(env)
    shown = [tables.scores(env, summaries, groups, reference), tables.costs(env, summaries, groups, found.by)]
    shown += [tables.duels(env, groups, summaries, pairs)] if pairs else []
    grid = "Seeds are read off straight lines between their evaluations, within the range that all of them share."
    return {"env": env, "tables": shown, "films": films, "grid": grid}


def axis_of_profile(found: Comparison) -> str:
    """What the profile stands on."""
    if len(found.tasks) == 1:
        return f"Final return on {found.tasks[0]}."
    return "Final scores of all tasks, 0 the lowest and 1 the highest run of a task."


def chart_data(found: Comparison, profile_axis: str) -> dict[str, Any]:
    """What the script draws, for all three axes."""
    style = figures.styles(found.groups)
    return {
        "by": found.by,
        "axes": AXES,
        "styles": [
            {"label": label, "colour": colour, "dash": DASHES[figures.DASHES.index(dashes)]}
            for label, (colour, dashes) in style.items()
        ],
        "tasks": [
            {"env": env, "curves": {by: [line(group, by) for group in found.of(env)[0]] for by in AXES}}
            for env in found.tasks
        ],
        "profile": [steps(label, profile) for label, profile in found.profiles.items()],
        "profileAxis": profile_axis.rstrip("."),
        "critics": [
            {"env": group.env, "label": group.label, **{key: pooled(group, key) for key in CALIBRATED}}
            for group in found.groups
            if any(run.calibration for run in group.runs)
        ],
    }


def line(group: Group, by: str) -> dict[str, Any]:
    """A group's curve on an axis."""
    drawn = curve(group, by)
    return {
        "label": group.label,
        "x": numbers(drawn.x),
        "mean": numbers(drawn.mean),
        "low": numbers(drawn.low),
        "high": numbers(drawn.high),
        "seeds": [[numbers(x[thinned(x)]), numbers(y[thinned(x)])] for x, y in drawn.seeds],
    }


def thinned(x: Array) -> NDArray[np.int64]:
    """Which of a seed's evaluations are drawn: all, or so many of them that a page of many tasks stays light."""
    return np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(np.int64))


def steps(label: str, profile: Profile) -> dict[str, Any]:
    """A profile as a line with corners."""
    levels = {"mean": profile.share, "low": profile.low, "high": profile.high}
    corners = {key: numbers(np.repeat(level, 2)[:-1]) for key, level in levels.items()}
    return {"label": label, "x": numbers(np.repeat(profile.thresholds, 2)[1:]), "seeds": [], **corners}


def pooled(group: Group, key: str) -> list[float] | None:
    """A column of the calibration of all seeds; None where the critics have no such thing."""
    columns = [run.calibration[key] for run in group.runs if run.calibration and key in run.calibration]
    return [value for column in columns for value in column] or None


def numbers(values: Any) -> list[float | None]:
    """Six digits of each, null for what is no number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in np.ravel(values)]


def facts(groups: Sequence[Group]) -> Table:
    """What the runs of each group were made with."""
    rows = []
    for group in groups:
        revisions = dict.fromkeys(str(run.facts["git_revision"] or "unknown")[:12] for run in group.runs)
        versions = dict.fromkeys(
            ", ".join(f"{name} {run.facts['versions'].get(name)}" for name in ("dsac", "torch", "mujoco", "python"))
            for run in group.runs
        )
        machines = dict.fromkeys(tables.machine(run.facts, run.settings) for run in group.runs)
        seeds = ", ".join(str(run.seed) for run in group.runs)
        rows.append(
            [f"{group.env}, {group.label}", seeds, " / ".join(revisions), " / ".join(versions), " / ".join(machines)]
        )
    return Table("", "runs", ["", "seeds", "revision", "versions", "machine"], rows)


def made_with(groups: Sequence[Group]) -> str:
    """The line below the title: how many runs, and of what; of many groups the algorithms."""
    runs = sum(len(group.runs) for group in groups)
    labels = dict.fromkeys(group.label for group in groups)
    if len(labels) <= tables.MANY:
        return f"{runs} runs: {', '.join(labels)}"
    algorithms = dict.fromkeys(NAMES.get(group.algorithm, group.algorithm) for group in groups)
    return f"{runs} runs in {len(groups)} groups: {', '.join(algorithms)}"


def command_of(words: Mapping[str, Any]) -> str:
    """The command of this page."""
    return command("compare", [as_word(key, value) for key, value in words.items()])


def best_films(groups: Sequence[Group], modules: Mapping[str, str]) -> dict[str, list[dict[str, str | None]]]:
    """For each task a film of each group's best policy, or in its place the reason why there is none."""
    found: dict[str, list[dict[str, str | None]]] = {}
    for group in following("films", groups, len(groups)):
        best = max(group.runs, key=lambda run: run.returns.max())
        caption = f"{group.label}, seed {best.seed}, its best evaluation: {tables.number(float(best.returns.max()))}"
        try:
            source = "data:video/mp4;base64," + base64.b64encode(film_of(best, modules)).decode()
        except Exception as error:  # a page without a film is better than none
            source, caption = None, f"{caption}. No film: {error}"
        found.setdefault(group.env, []).append({"source": source, "caption": caption})
    return found


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
