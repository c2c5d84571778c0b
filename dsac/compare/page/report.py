"""A comparison as one HTML page that needs no network: tables, charts to look into, films, and how to make it again.

What comes from a run folder enters the page as text: the template escapes it, the script sets it as text, and the
page's own policy allows the one script and the one style that are hashed in it, and nothing from outside.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsac.compare import tables
from dsac.compare.calibration import Calibration
from dsac.compare.cells import Table
from dsac.compare.commands import commands, differences
from dsac.compare.comparison import Comparison, incomparable
from dsac.compare.groups import Group, remarks_on
from dsac.compare.labels import NAMES
from dsac.compare.page.charts import chart_data
from dsac.compare.page.films import Film, best_films
from dsac.compare.page.views import Part, overview, parts_of
from dsac.compare.scores import AXES
from dsac.errors import ConfigError
from dsac.schema.validate import as_word, command

MISSING_EXTRA = "a report needs jinja2: pip install -e '.[compare]'"
PAGE = Path(__file__).parent
SCRIPTS = ("charts.js", "report.js")
NAMED = 6  # algorithms in the title


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
    parts = parts_of(found)
    films, missing = best_films(parts, modules) if words.get("films", True) else ({}, [])
    found = replace(found, remarks=[*found.remarks, *missing])
    path.write_text(render(found, parts, critics, reference, words, films), encoding="utf-8")
    return path


def render(
    found: Comparison,
    parts: Sequence[Part],
    critics: Sequence[Calibration],
    reference: bool,
    words: Mapping[str, Any],
    films: Mapping[str, Sequence[Film]],
) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style = (PAGE / "report.css").read_text()
    script = "\n".join((PAGE / name).read_text() for name in SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    axis = axis_of_profile(found)
    full = {label: name.full for one in parts for label, name in one.names.items()}
    groups = [replace(group, label=full[group.label]) for group in found.groups]
    labels, rows = differences(groups)
    return environment.get_template("report.html").render(
        title=title_of(groups),
        made=made_with(groups),
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        data=Markup(as_json(chart_data(found, parts, axis))),
        axes=AXES,
        by=found.by,
        tasks=[task_part(one, found.by, reference, films.get(one.env, ())) for one in parts],
        remarks=remarks_of(found, groups),
        profile=axis if found.profiles else "",
        together=tables.together([replace(row, label=full[row.label]) for row in found.overall]),
        critics=tables.critics([replace(row, label=full[row.label]) for row in critics]),
        trained_critics=tables.critics_in_training(groups),
        critic_tasks=list(dict.fromkeys(row.env for row in critics)),
        facts=facts(groups),
        labels=labels,
        differences=rows,
        commands=[{"title": f"{group.env}, {group.label}", "lines": commands(group)} for group in groups],
        command=command_of(words),
    )


def digest(text: str) -> str:
    """A source expression of a content security policy that allows this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_json(tree: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def task_part(one: Part, by: str, reference: bool, films: Sequence[Film]) -> dict[str, Any]:
    """A task's part of the page; tables that are folded have full names."""
    groups, summaries, pairs = one.renamed()
    columns, rows = overview(one)
    folded = [tables.scores(one.env, summaries, groups, reference), tables.costs(one.env, summaries, groups, by)]
    folded += [tables.duels(one.env, groups, summaries, pairs)] if pairs else []
    return {
        "env": one.env,
        "views": one.views,
        "columns": columns,
        "rows": list(zip(one.kinds, rows, strict=True)),
        "answer": tables.answer(one.env, groups, summaries, pairs),
        "tables": folded,
        "films": films,
    }


def remarks_of(found: Comparison, named: Sequence[Group]) -> list[str]:
    """The remarks of a comparison, those on its groups with the names of the page."""
    own = {*remarks_on(found.groups), *incomparable(found.groups)}
    return [*(line for line in found.remarks if line not in own), *remarks_on(named), *incomparable(named)]


def title_of(groups: Sequence[Group]) -> str:
    """Which algorithms on which task: "DSAC-T, PPO on Hopper-v5"; of many algorithms the first, of tasks how many."""
    algorithms = list(dict.fromkeys(NAMES.get(group.algorithm, group.algorithm) for group in groups))
    more = [f"{len(algorithms) - NAMED} more"] if len(algorithms) > NAMED else []
    tasks = list(dict.fromkeys(group.env for group in groups))
    where = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    return f"{', '.join([*algorithms[:NAMED], *more])} on {where}"


def axis_of_profile(found: Comparison) -> str:
    """What the profile stands on."""
    if len(found.tasks) == 1:
        return f"final return on {found.tasks[0]}"
    return "final score of all tasks, 0 the lowest and 1 the highest run of a task"


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
    """The line below the title: how many runs, in which simulator."""
    runs = sum(len(group.runs) for group in groups)
    simulators = dict.fromkeys(group.comparability["simulator"] for group in groups)
    return f"{runs} runs in {len(groups)} groups · {' or '.join(simulators)}"


def command_of(words: Mapping[str, Any]) -> str:
    """The command of this page."""
    return command("compare", [as_word(key, value) for key, value in words.items()])
