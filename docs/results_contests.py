"""Tables that set the methods of a task beside each other, for README.md, docs/results.md and docs/recipe.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import results_stages as stages
from results_entries import Entry, Found

from dsac.compare import cells, scores
from dsac.compare.scores import final
from dsac.evaluation.statistics import mean

METHODS = ("DSAC-T recipe", "DSAC-T published", "SAC recipe", "SAC published", "PPO")
PRECISION = "precision="  # the only override of a row in README
Methods = dict[str, list[Entry]]


def contests(tasks: Mapping[str, Sequence[Entry]]) -> Iterator[tuple[str, str, Methods]]:
    """Each task without overrides, and with each set of overrides that two methods share: task, overrides, methods."""
    for env, entries in tasks.items():
        for said in dict.fromkeys(entry.overrides for entry in entries):
            methods = {
                method: [
                    one for one in entries if one.method == method and (one.overrides == said or not one.off_policy)
                ]
                for method in METHODS
            }
            if sum(any(one.off_policy for one in found) for found in methods.values()) > bool(said):
                yield env, said, methods


def headline(tasks: Mapping[str, Sequence[Entry]]) -> list[list[str]]:
    """README's table: one row a task, at the last env steps that all of its methods came to.

    Of several precisions one that the recipe has, then the one with most methods, then most runs. No other override:
    such rows are in results.md.
    """
    best: dict[str, tuple[str, Methods]] = {}
    for env, said, methods in contests(tasks):
        if said and (not said.startswith(PRECISION) or " " in said):
            continue
        if env not in best or size(methods) > size(best[env][1]):
            best[env] = said.removeprefix(PRECISION) or "float32", methods
    return [
        [env, *met(methods, meeting(methods, stages.ENV_STEPS), stages.ENV_STEPS), precision]
        for env, (precision, methods) in best.items()
    ]


def size(methods: Methods) -> tuple[bool, int, int]:
    """Whether the first of the methods is there, how many are, and how many runs of them."""
    runs = sum(len(one.group.runs) for found in methods.values() for one in found)
    return bool(methods[METHODS[0]]), sum(map(bool, methods.values())), runs


def at_equal_env_steps(tasks: Mapping[str, Sequence[Entry]]) -> list[list[str]]:
    """Rows for each of the contests: at the last env steps that all came to, and further on.

    Further on wherever two methods still stand beside each other, and where the last off-policy one ends.
    """
    rows = []
    for env, said, methods in contests(tasks):
        name, first = f"{env} {said}".strip(), meeting(methods, stages.ENV_STEPS)
        rows.append([name, *met(methods, first, stages.ENV_STEPS)])
        every = [one for found in methods.values() for one in found]
        last = max(stages.ends(one.group)[-1] for one in every if one.off_policy)
        for point in stages.apart(end for one in every for end in stages.ends(one.group)):
            there = met(methods, point, stages.ENV_STEPS)
            several = len(METHODS) - there.count(cells.NOTHING) > 1
            if first < stages.REACHED * point and point <= last and (several or point == last):
                rows.append([name, *there])
    return rows


def side_by_side(found: Found) -> list[list[str]]:
    """A row for each of the contests at the last env steps, updates and time that all came to.

    One where the returns are the same at the next; times only where all have their rate.
    """
    rows: list[list[str]] = []
    for env, said, methods in contests(found.tasks):
        entries = [one for several in methods.values() for one in several]
        places: dict[tuple[str, ...], list[str]] = {}
        for axis in axes(found, entries):
            place, *cells = met(methods, meeting(methods, axis), axis)
            places.setdefault(tuple(cells), []).append(place)
        rows.extend([f"{env} {said}".strip(), ", ".join(at), *cells] for cells, at in places.items())
    return rows


def axes(found: Found, entries: Sequence[Entry]) -> list[stages.Axis]:
    """Env steps, updates and, where all entries of a task have their rate, time."""
    pace = {rate.label: rate.seconds / rate.env_steps for rate in found.rates if rate.env == entries[0].group.env}
    timed = [stages.time(pace)] if all(one.label in pace for one in entries) else []
    return [stages.ENV_STEPS, stages.UPDATES, *timed]


def meeting(methods: Mapping[str, Sequence[Entry]], axis: stages.Axis) -> float:
    """The last point of an axis that each of the methods, those that were run, came to."""
    return min(max(stages.ends(one.group, axis)[-1] for one in found) for found in methods.values() if found)


def met(methods: Mapping[str, Sequence[Entry]], point: float, axis: stages.Axis) -> list[str]:
    """A point of an axis in words, and what each method has there."""
    return [axis.place(point), *(standing(found, point, axis) for found in methods.values())]


def standing(entries: Sequence[Entry], point: float, axis: stages.Axis) -> str:
    """7,126 [6,773, 7,486] (3): the return at a point of an axis, and seeds; of several groups that with most."""
    cuts = [there for one in entries if (there := stages.cut_at(one.group, point, axis))]
    if not cuts:
        return cells.NOTHING
    group = max(cuts, key=lambda there: len(there.runs))
    return f"{cells.spread(scores.estimate(mean, [final(group)]))} ({len(group.runs)})"
