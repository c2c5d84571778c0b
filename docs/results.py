"""Rewrite the tables of README.md, docs/results.md and docs/recipe.md, and a figure a task: make results

Every folder below docs/results/ that `python -m dsac.compare runs=... commit=docs/results/<name>` made counts.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import results_stages as stages
from results_contests import METHODS, at_equal_env_steps, axes, headline, side_by_side
from results_entries import Entry, Found, Rate, commands, gathered

from dsac.compare import calibration, cells, figures, scores, tables
from dsac.compare.groups import Group
from dsac.compare.published import published
from dsac.compare.scores import final

ROOT = Path(__file__).resolve().parent.parent
README, PAGE, RECIPE = "README.md", "docs/results.md", "docs/recipe.md"
PROTOCOL = {"precision", "num_envs", "updates_per_env_step"}  # overrides that leave a method what it is


def reached(entries: Sequence[Entry]) -> cells.Table:
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
                    cells.spread(row.final),
                    cells.spread(row.final_iqm) if row.seeds >= 4 else cells.NOTHING,  # below, nothing is cut off
                    cells.spread(row.best),
                    str(row.best_of),
                ]
            )
    env, groups = entries[0].group.env, [entry.group for entry in entries]
    facts = dict.fromkeys(
        f"{one.comparability['evaluation']} per evaluation, {one.comparability['simulator']}" for one in groups
    )
    machines = sorted({tables.machine(run.facts, run.settings) for one in groups for run in one.runs})
    notes = [f"{' or '.join(facts)}. Made on {'; '.join(machines)}."]
    if theirs := [f"{row.algorithm} {cells.number(row.mean)}" for row in published(env)]:
        notes.append(f"The paper, after 30,000,000 env steps of {published(env)[0].env}: {', '.join(theirs)}.")
    columns = ["", "seeds", "env steps", "updates", "return", "interquartile mean", "best of last 10%", "of"]
    return cells.Table(env, "", columns, rows, notes)


def comparable(one: Entry, other: Entry, entries: Sequence[Entry]) -> bool:
    """Whether a difference has one cause: DSAC-T against PPO, or apart in algorithm, settings or overrides alone.

    Of groups with more and more overrides each is set beside the next.
    """
    if one.algorithm != "DSAC-T" or one is other or one.group.different(other.group):
        return False
    if not other.off_policy:
        return {word.partition("=")[0] for word in one.overrides.split()} <= PROTOCOL
    same_settings = one.settings == other.settings or not other.settings
    if one.algorithm != other.algorithm:
        return same_settings and one.overrides == other.overrides
    if one.overrides == other.overrides:
        return one.settings == "recipe" or other.settings not in ("recipe", one.settings)
    return adds(one, other) and not any(adds(one, entry) and adds(entry, other) for entry in entries)


def adds(one: Entry, other: Entry) -> bool:
    """Whether the other is the same method with all the overrides and more."""
    return one.method == other.method and set(one.overrides.split()) < set(other.overrides.split())


def differences(found: Found) -> list[list[str]]:
    """A row for each two groups whose difference has one cause, at equal env steps, updates and time."""
    rows = []
    for env, entries in found.tasks.items():
        for one, other in ((one, other) for one in entries for other in entries if comparable(one, other, entries)):
            seen: list[list[list[float]]] = []  # equal updates are equal env steps for most
            for axis in axes(found, [one, other]):
                for point, first, second in stages.meetings(one.group, other.group, axis):
                    if (both := [final(first).tolist(), final(second).tolist()]) not in seen:
                        seen.append(both)
                        name = f"{one.label} minus {other.label}"
                        rows.append([env, name, axis.place(point), *against(first, second)])
    return rows


def against(first: Group, second: Group) -> list[str]:
    """Two groups, cut at the same point of an axis, as cells."""
    pair = scores.pair(first, second)
    seeds = f"{len(first.runs)}, {len(second.runs)}"
    means = " and ".join(cells.number(float(final(group).mean())) for group in (first, second))
    return [seeds, means, cells.spread(pair.difference), cells.spread(pair.probability), pair.verdict]


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
    text = cells.markdown(cells.Table("", "-", columns, rows)).partition("\n\n")[2]
    return text.replace("\\](", "](")  # the links of this page are its own


def chapter(env: str, entries: Sequence[Entry], places: Sequence[str]) -> str:
    """All that is said of a task: table, figure, and the commands that repeat both."""
    table = reached(entries)
    critics = [row for entry in entries if (row := calibration.summarise(entry.group))]
    parts = [
        f"### {env}",
        grid(table.columns, table.rows).strip(),
        *table.notes,
        *([cells.markdown(tables.critics(critics)).partition("\n\n")[2].strip()] if critics else []),
        *(f"![{picture.alt}]({picture.path})" for picture in pictures(env, entries)),
        f"Runs: {', '.join(f'[{place}](results/{place})' for place in places)}. Made by",
        "\n".join(["```sh", *commands(entries), "```"]),
    ]
    return "\n\n".join(parts) + "\n"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure: its file, from docs/ on, its title, what it is in words, and a group a line under the line's name."""

    path: str
    title: str
    alt: str
    groups: Sequence[Group]


def pictures(env: str, entries: Sequence[Entry]) -> list[Picture]:
    """The figures of a task: the methods of the headline, or what there is; every algorithm and single changes, as
    published.

    The second where there are three algorithms beside PPO, the third where there are two changes.
    """

    def picture(name: str, said: str, groups: Sequence[Group], of: str) -> Picture:
        stem = re.sub(r"[^A-Za-z0-9-]", "-", " ".join([env, *name.split()]))
        title = " ".join([env, *said.split()])
        return Picture(f"results/{stem}.png", title, f"Returns {of} on {title} over env steps", groups)

    said, groups = drawn([one for one in entries if one.method in METHODS] or entries)
    found = [picture("", said, groups, f"of {', '.join(dict.fromkeys(group.label for group in groups))}")]
    published = [one for one in entries if one.settings in ("published", "")]  # nothing: the recipe leaves it as it is
    if len({one.algorithm for one in published if one.off_policy}) >= 3:
        said, groups = drawn(published)
        found.append(picture("published", said, groups, "with the published settings"))
        base = [one for one in published if one.method == "DSAC-T published" and one.overrides == said]
        changes = [
            dataclasses.replace(one.group, label=changed[0])
            for one in published
            if any(adds(plain, one) for plain in base)
            and len(changed := [word for word in one.overrides.split() if word not in said.split()]) == 1
        ]
        if len(changes) >= 2:
            lines = [*(dataclasses.replace(plain.group, label=plain.method) for plain in base), *changes]
            found.append(picture("published changes", said, lines, "of DSAC-T with one setting changed"))
    return found


def drawn(entries: Sequence[Entry]) -> tuple[str, list[Group]]:
    """The overrides that most methods share, and a group of each of these under the method's name.

    Of several groups of a method the one with most runs, then the one that has come furthest.
    """

    def sharing(said: str) -> list[Group]:
        found: dict[str, list[Group]] = {method: [] for method in METHODS}
        for one in entries:
            if one.overrides == said or not one.off_policy:
                found.setdefault(one.method, []).append(dataclasses.replace(one.group, label=one.method))
        return [max(groups, key=lambda one: (len(one.runs), stages.ends(one))) for groups in found.values() if groups]

    shared = {said: sharing(said) for said in dict.fromkeys(one.overrides for one in entries)}
    return max(shared.items(), key=lambda item: (len(item[1]), sum(len(group.runs) for group in item[1])))


def draw(found: Found, root: Path) -> list[str]:
    """Write the figures of all tasks, as PNG. Returns their paths, from docs/ on."""
    shown = [picture for env, entries in found.tasks.items() for picture in pictures(env, entries)]
    for picture in shown:
        curves = {picture.title: {group.label: stages.whole_curve(group) for group in picture.groups}}
        with tempfile.TemporaryDirectory() as folder:
            style = figures.styles(picture.groups)
            png, _ = figures.draw_curves(curves, "env_steps", style, Path(folder) / "curves")
            shutil.copyfile(png, root / "docs" / picture.path)
    return [picture.path for picture in shown]


def blocks(found: Found) -> dict[str, dict[str, str]]:
    """The generated parts of each page, by their names."""
    columns = ["", "first minus second", "at", "seeds", "returns", "difference", "probability", "first is"]
    chapters = [chapter(env, entries, found.places[env]) for env, entries in found.tasks.items()]
    remarks = "".join(f"- {remark}\n" for remark in found.remarks)
    return {
        README: {"headline": grid(["task", "at", *METHODS, "precision"], headline(found.tasks))},
        RECIPE: {"side by side": grid(["", "at", *METHODS], side_by_side(found))},
        PAGE: {
            "equal env steps": grid(["", "at", *METHODS], at_equal_env_steps(found.tasks)),
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
    drawings = draw(everything, ROOT)
    for page, text in texts.items():
        (ROOT / page).write_text(text)
    print(f"written: {', '.join([*texts, *(f'docs/{path}' for path in drawings)])}; see git diff")
