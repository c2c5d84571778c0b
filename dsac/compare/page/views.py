"""What the report shows of a task at a time: groups that may be compared, the few of them that are told, in a sentence.

A task whose groups have several budgets, simulators or evaluations has a view for each of these, and one of all.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsac.compare.cells import NOTHING, duration, number, spread
from dsac.compare.comparison import Comparison
from dsac.compare.groups import Group
from dsac.compare.page.names import Name, names, worded
from dsac.compare.scores import Pair, Summary
from dsac.compare.tables import lost

ALL_TOLD = 8  # groups of a view that are drawn in colour; of more, the best of each algorithm and the best others
TOLD = 6
LISTED = 12  # groups of a view that have a curve at all
MOST_VIEWS = 8
EVERY_KIND = -1
Cell = tuple[str, float | str]  # what is read, and what it is sorted by


@dataclass(frozen=True)
class View:
    """Groups of a task beside each other, by their places among the groups of the task.

    title       "600k env steps · 15 groups"; empty where a task has one view
    kind        which of the kinds that may be compared it shows; EVERY_KIND for all
    sentence    what came out
    listed      those with a curve, the best first
    told        those of them in colour
    called      what each group of the view is called
    """

    title: str
    kind: int
    sentence: str
    listed: tuple[int, ...]
    told: tuple[int, ...]
    called: Mapping[int, str]


@dataclass(frozen=True)
class Part:
    """A task of the report: its groups with their scores and pairs, and views of them. `kinds` says which groups may be
    compared: those of the same number.
    """

    env: str
    groups: Sequence[Group]
    summaries: Sequence[Summary]
    pairs: Sequence[Pair]
    names: Mapping[str, Name]
    kinds: Sequence[int]
    views: Sequence[View]

    @property
    def drawn(self) -> list[int]:
        """The groups that have a curve in some view, in the order of the groups."""
        return sorted({index for view in self.views for index in view.listed})

    def renamed(self) -> tuple[list[Group], list[Summary], list[Pair]]:
        """Groups, scores and pairs with full names as labels."""
        full = {label: name.full for label, name in self.names.items()}
        return (
            [dataclasses.replace(one, label=full[one.label]) for one in self.groups],
            [dataclasses.replace(one, label=full[one.label]) for one in self.summaries],
            [dataclasses.replace(one, label=full[one.label], other=full[one.other]) for one in self.pairs],
        )


def parts_of(found: Comparison) -> list[Part]:
    """The tasks of a comparison; a group has one name in all of them."""
    known = names(found.groups)
    return [part(env, *found.of(env), known) for env in found.tasks]


def part(
    env: str, groups: Sequence[Group], summaries: Sequence[Summary], pairs: Sequence[Pair], known: Mapping[str, Name]
) -> Part:
    """A task's part of the report."""
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[tuple(group.comparability.values())].append(index)
    kinds = {index: kind for kind, found in enumerate(members.values()) for index in found}
    made = Part(env, groups, summaries, pairs, known, [kinds[index] for index in range(len(groups))], ())
    several = [kind for kind, found in enumerate(members.values()) if len(found) > 1] if len(members) > 1 else []
    several.sort(key=lambda kind: -made.kinds.count(kind))
    views = [view(made, kind) for kind in several[:MOST_VIEWS]]
    return dataclasses.replace(made, views=[*views, view(made, EVERY_KIND)])


def view(made: Part, kind: int) -> View:
    """The groups of a kind, or all."""
    there = [index for index, own in enumerate(made.kinds) if kind in (own, EVERY_KIND)]
    best = sorted(there, key=lambda index: made.summaries[index].final.value, reverse=True)
    told = told_of(made, best)
    known = names([made.groups[index] for index in there])  # what all have in common needs not be said
    called = {index: known[made.groups[index].label].full for index in there}
    rest = [index for index in best if index not in told]
    kept = {*told, *rest[: max(0, LISTED - len(told))]}
    listed = tuple(index for index in best if index in kept)
    return View(title_of(made, kind, there), kind, sentence(made, best, called), listed, told, called)


def told_of(made: Part, best: Sequence[int]) -> tuple[int, ...]:
    """Those in colour, of groups with the best first: few all, of many each algorithm's best and then the best."""
    if len(best) <= ALL_TOLD:
        return tuple(best)
    firsts = list({made.groups[index].algorithm: index for index in reversed(best)}.values())
    firsts = [index for index in best if index in firsts][:ALL_TOLD]
    others = [index for index in best if index not in firsts]
    chosen = {*firsts, *others[: max(0, TOLD - len(firsts))]}
    return tuple(index for index in best if index in chosen)


def differing(made: Part) -> list[str]:
    """What keeps groups of a task from being compared: budget, simulator, evaluation, task."""
    return [key for key in made.groups[0].comparability if len({group.comparability[key] for group in made.groups}) > 1]


def title_of(made: Part, kind: int, there: Sequence[int]) -> str:
    """What the groups of a kind have in common; of all, how many there are."""
    if len(set(made.kinds)) == 1:
        return ""
    if kind == EVERY_KIND:
        return f"all {len(there)} groups"
    one = made.groups[there[0]]
    said = {**one.comparability, "task": one.comparability["task"].removeprefix(made.env).strip() or "as it is"}
    said["budget"] = f"{worded(one.budget)} steps"
    keys = sorted(differing(made), key=lambda key: key != "budget")
    return f"{', '.join(said[key] for key in keys)} · {len(there)} groups"


def sentence(made: Part, best: Sequence[int], called: Mapping[int, str]) -> str:
    """What came out, in a sentence: who ends highest, before whom, and whether the seeds suffice to tell."""
    first = made.summaries[best[0]]
    plural = "" if first.seeds == 1 else "s"
    ends = f"at {spread(first.final)}{lost(first) or f' over {first.seeds} seed{plural}'}"
    if len(best) == 1:
        return f"{called[best[0]]} ends {ends}."
    text = f"{called[best[0]]} ends highest, {ends}"
    if len({made.kinds[index] for index in best}) > 1:
        return f"{text}. Groups are compared only where they have the same {' and '.join(differing(made))}."
    second = made.summaries[best[1]]
    text += f", ahead of {called[best[1]]} at {spread(second.final)}"
    two = {made.groups[best[0]].label, made.groups[best[1]].label}
    verdict = next((pair.verdict for pair in made.pairs if {pair.label, pair.other} == two), "")
    said = {"too few seeds to tell": ": too few seeds to tell them apart", "not told apart": ", but not told apart"}
    return f"{text}{said.get(verdict, '')}."


def overview(made: Part) -> tuple[list[str], list[list[Cell]]]:
    """The table that can be sorted: columns, and a row of cells for each group."""
    columns = ["precision", "budget", "seeds", "final", "sd", "best of last 10%", "run time"]
    rows: list[list[Cell]] = []
    titles = Counter((made.names[one.label].short, one.settings.get("precision"), one.budget) for one in made.groups)
    for group, row in zip(made.groups, made.summaries, strict=True):
        name, precision = made.names[group.label], str(group.settings.get("precision", NOTHING))
        alone = titles[name.short, group.settings.get("precision"), group.budget] == 1
        called = name.short if alone else name.full
        rows.append(
            [
                (called, called.lower()),
                (precision, precision),
                (worded(group.budget), group.budget),
                (f"{row.seeds}, {row.failed} failed" if row.failed else str(row.seeds), row.seeds),
                (spread(row.final), row.final.value),
                (number(row.deviation), row.deviation),
                (spread(row.best), row.best.value),
                (duration(row.seconds), row.seconds),
            ]
        )
    return ["group", *columns], rows
