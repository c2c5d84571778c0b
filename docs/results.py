"""Rewrite the tables of README.md, docs/results.md and docs/recipe.md, and a figure a task: make results

Every folder below docs/results/ that `python -m dsac.compare runs=... commit=docs/results/<name>` made counts.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import results_stages as stages
from results_entries import Entry, Found, Rate, commands, gathered

from dsac import calibration, figures, scores, tables
from dsac.groups import Group
from dsac.published import published
from dsac.scores import final
from dsac.statistics import mean

ROOT = Path(__file__).resolve().parent.parent
README, PAGE, RECIPE = "README.md", "docs/results.md", "docs/recipe.md"
METHODS = ("DSAC-T recipe", "DSAC-T published", "SAC recipe", "SAC published", "PPO")  # of the headline
LINES = 6  # of a figure, so that it can be read

Axes = Callable[[Entry], stages.Axis]  # how far the runs of a group have come, in env steps, updates or seconds


def contests(tasks: Mapping[str, Sequence[Entry]]) -> Iterator[tuple[str, dict[str, list[Entry]]]]:
    """Each task, and each task with other words that two methods have, and the groups of the methods beside it."""
    for env, entries in tasks.items():
        for said in dict.fromkeys(entry.words for entry in entries):
            methods = {
                method: [one for one in entries if one.method == method and (one.words == said or not one.off_policy)]
                for method in METHODS
            }
            if sum(any(one.off_policy for one in found) for found in methods.values()) > bool(said):
                yield f"{env} {said}".strip(), methods


def headline(tasks: Mapping[str, Sequence[Entry]]) -> list[list[str]]:
    """A row for each of the contests, at the last env steps that all came to."""
    return [[name, *met(methods, along_env_steps, "{:,.0f}".format)] for name, methods in contests(tasks)]


def side_by_side(found: Found) -> list[list[str]]:
    """A row for each of the contests at the last env steps, updates and seconds that all came to."""
    rows = []
    for name, methods in contests(found.tasks):
        rates = {rate.label: rate for rate in found.rates if name.split()[0] == rate.env}
        steps = met(methods, along_env_steps, "{:,.0f} env steps".format)
        updates = met(methods, along_updates, "{:,.0f} updates".format)
        if steps[1:] == updates[1:]:
            rows.append([name, f"{steps[0]}, {updates[0]}", *steps[1:]])
        else:
            rows.extend([[name, *steps], [name, *updates]])
        if all(one.label in rates for entries in methods.values() for one in entries):
            rows.append([name, *met(methods, along_time(rates), tables.duration, stages.BY_THEN)])
    return rows


def along_env_steps(_: Entry) -> stages.Axis:
    return stages.env_steps


def along_updates(_: Entry) -> stages.Axis:
    return stages.updates


def along_time(rates: Mapping[str, Rate]) -> Axes:
    return lambda entry: seconds(rates[entry.label])


def met(
    methods: Mapping[str, Sequence[Entry]], axis: Axes, place: Callable[[float], str], near: float = stages.REACHED
) -> list[str]:
    """Where the methods meet along an axis, and what each has there."""
    point = min(max(stages.ends(one.group, axis(one))[-1] for one in found) for found in methods.values() if found)
    return [place(point), *(standing(found, point, axis, near) for found in methods.values())]


def standing(entries: Sequence[Entry], point: float, axis: Axes, near: float) -> str:
    """7,126 [6,773, 7,486] (3): the return at a point of an axis, and seeds; of several groups that with most.

    On env steps only from those that are `stages.first_telling` there, as in `differences`.
    """
    told = [one for one in entries if axis is not along_env_steps or point >= stages.first_telling(one.group)]
    cuts = [there for one in told if (there := stages.cut(one.group, point, axis(one), near))]
    if not cuts:
        return tables.NOTHING
    group = max(cuts, key=lambda there: len(there.runs))
    return f"{tables.spread(scores.estimate(mean, [final(group)]))} ({len(group.runs)})"


def reached(entries: Sequence[Entry]) -> tables.Table:
    """What each group of a task came to at the last points that its seeds share."""
    rows = []
    for entry in entries:
        for point in stages.ends(entry.group):
            there = stages.cut(entry.group, point)
            assert there is not None
            row = scores.summarise(there, "env_steps", math.inf)
            rows.append(
                [
                    entry.label,
                    str(row.seeds),
                    f"{row.env_steps:,.0f}",
                    f"{scores.median([run.updates[-1] for run in there.runs]):,.0f}",
                    tables.spread(row.final),
                    tables.spread(row.final_iqm) if row.seeds >= 4 else tables.NOTHING,  # below, nothing is cut off
                    tables.spread(row.best),
                    str(row.best_of),
                ]
            )
    env, groups = entries[0].group.env, [entry.group for entry in entries]
    facts = dict.fromkeys(f"{one.alike['evaluation']} an evaluation, {one.alike['simulator']}" for one in groups)
    machines = sorted({tables.machine(run.facts, run.settings) for one in groups for run in one.runs})
    notes = [f"{' or '.join(facts)}. Made on {'; '.join(machines)}."]
    if theirs := [f"{row.algorithm} {tables.number(row.mean)}" for row in published(env)]:
        notes.append(f"The paper, after 30,000,000 env steps of {published(env)[0].env}: {', '.join(theirs)}.")
    columns = ["", "seeds", "env steps", "updates", "return", "interquartile mean", "best of last 10%", "of"]
    return tables.Table(env, "", columns, rows, notes)


def comparable(one: Entry, other: Entry) -> bool:
    """Whether a difference has one cause: DSAC-T against PPO, or apart in algorithm, settings or words alone."""
    if one.algorithm != "DSAC-T" or one is other or one.group.different(other.group):
        return False
    if not other.off_policy:
        return not one.words or "updates_per_env_step" in one.words
    same_settings = one.settings == other.settings or not other.settings
    if one.algorithm != other.algorithm:
        return same_settings and one.words == other.words
    if one.words == other.words:
        return one.settings == "recipe" or other.settings not in ("recipe", one.settings)
    return same_settings and not one.words


def differences(found: Found) -> list[list[str]]:
    """A row for each two groups whose difference has one cause, at equal env steps, updates and time."""
    rows = []
    for env, entries in found.tasks.items():
        rates = {rate.label: rate for rate in found.rates if rate.env == env}
        for one, other in ((one, other) for one in entries for other in entries if comparable(one, other)):
            axes = {"env steps": (stages.env_steps, stages.env_steps), "updates": (stages.updates, stages.updates)}
            if one.label in rates and other.label in rates:
                axes["time"] = (seconds(rates[one.label]), seconds(rates[other.label]))
            told: list[tuple[list[float], list[float]]] = []  # equal updates are equal env steps for most
            for axis, (ours, theirs) in axes.items():
                for point in stages.meetings(one.group, other.group, ours, theirs):
                    near = stages.BY_THEN if axis == "time" else stages.REACHED
                    first, second = (
                        stages.cut(of.group, point, along, near) for of, along in ((one, ours), (other, theirs))
                    )
                    if first and second and (both := (final(first).tolist(), final(second).tolist())) not in told:
                        told.append(both)
                        rows.append([env, f"{one.label} minus {other.label}", *against(first, second, point, axis)])
    return rows


def seconds(rate: Rate) -> stages.Axis:
    """The time of a run's evaluations where nothing slows it, by the env steps that it then takes a second."""
    return lambda run: run.env_steps * (rate.seconds / rate.env_steps)


def against(first: Group, second: Group, point: float, axis: str) -> list[str]:
    """Two groups, cut at the same point of an axis, as cells."""
    pair = scores.pair(first, second)
    place = tables.duration(point) if axis == "time" else f"{point:,.0f} {axis}"
    seeds = f"{len(first.runs)}, {len(second.runs)}"
    means = " and ".join(tables.number(float(final(group).mean())) for group in (first, second))
    return [place, seeds, means, tables.spread(pair.difference), tables.spread(pair.probability), pair.verdict]


def shown_rates(rates: Sequence[Rate]) -> list[list[str]]:
    """What the times of the page rest on."""
    return [
        [
            f"{rate.env} {rate.label}",
            f"{rate.seconds / rate.updates * 1000:.1f}",
            f"{rate.seconds / rate.env_steps * 100_000:.1f}",
            rate.conditions,
            f"[{rate.source.partition('#')[0]}]({rate.source})",
        ]
        for rate in rates
    ]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown without a heading."""
    return tables.markdown(tables.Table("", "-", columns, rows)).partition("\n\n")[2]


def chapter(env: str, entries: Sequence[Entry], places: Sequence[str]) -> str:
    """All that is said of a task: table, figure, and the commands that repeat both."""
    table = reached(entries)
    critics = [row for entry in entries if (row := calibration.summarise(entry.group))]
    left = [entry.label for entry in entries if entry not in lines(entries)]
    parts = [
        f"### {env}",
        grid(table.columns, table.rows).strip(),
        *table.notes,
        *([tables.markdown(tables.critics(critics)).partition("\n\n")[2].strip()] if critics else []),
        f"![Returns on {env} over env steps]({figure_of(env)})",
        *([f"Not drawn: {'; '.join(left)}."] if left else []),
        f"Runs: {', '.join(f'[{place}](results/{place})' for place in places)}. Made by",
        "\n".join(["```sh", *commands(entries), "```"]),
    ]
    return "\n\n".join(parts) + "\n"


def figure_of(env: str) -> str:
    """The figure of a task, from docs/ on."""
    return f"results/{re.sub(r'[^A-Za-z0-9-]', '-', env)}.png"


def lines(entries: Sequence[Entry]) -> list[Entry]:
    """The groups that a figure shows: those of the headline first, then other methods, then other words."""
    order = sorted(entries, key=lambda entry: (bool(entry.words), entry.method not in METHODS))[:LINES]
    return [entry for entry in entries if entry in order]


def draw(found: Found, root: Path) -> None:
    """A figure a task, as PNG."""
    for env, entries in found.tasks.items():
        groups = [entry.group for entry in lines(entries)]
        curves = {env: {group.label: stages.whole_curve(group) for group in groups}}
        with tempfile.TemporaryDirectory() as folder:
            png, _ = figures.draw_curves(curves, "env_steps", figures.styles(groups), Path(folder) / "curves")
            shutil.copyfile(png, root / "docs" / figure_of(env))


def blocks(found: Found) -> dict[str, dict[str, str]]:
    """The generated parts of each page, by their names."""
    columns = ["", "first minus second", "at", "seeds", "returns", "difference", "probability", "first is"]
    chapters = [chapter(env, entries, found.places[env]) for env, entries in found.tasks.items()]
    remarks = "".join(f"- {remark}\n" for remark in found.remarks)
    return {
        README: {"headline": grid(["", "env steps", *METHODS], headline(found.tasks))},
        RECIPE: {"side by side": grid(["", "at", *METHODS], side_by_side(found))},
        PAGE: {
            "differences": grid(columns, differences(found)),
            "rates": grid(["", "s / 1,000 updates", "s / 100,000 env steps", "on", "from"], shown_rates(found.rates)),
            "tasks": "\n".join([*chapters, *([remarks] if remarks else [])]),
        },
    }


def rewritten(text: str, parts: Mapping[str, str]) -> str:
    """A page with its generated parts as they should be. Raises ValueError where a mark is missing."""
    for name, part in parts.items():
        begin, end = f"<!-- {name}: written by make results -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{begin} and {end} must stand once in the page")
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n\n{part.strip()}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    figures.check()
    everything = gathered(ROOT / "docs" / "results")
    texts = {page: rewritten((ROOT / page).read_text(), parts) for page, parts in blocks(everything).items()}
    draw(everything, ROOT)
    for page, text in texts.items():
        (ROOT / page).write_text(text)
    print(f"written: {', '.join([*texts, *(f'docs/{figure_of(env)}' for env in everything.tasks)])}; see git diff")
