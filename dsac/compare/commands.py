"""How runs were made: the commands that make them again, and what their configs differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsac.compare.groups import Group, shared
from dsac.compare.overrides import base_choice, overrides
from dsac.schema.validate import as_word, command, shown

NOTHING = "-"


def commands(group: Group) -> list[str]:
    """The training commands of a group's runs: what differs from the defaults, processor threads and device included.

    Runs that differ in the seed alone are one loop of the shell. An algorithm of one's own is not imported to ask for
    its defaults: all of its settings are given.
    """
    by_rest: dict[str, list[int]] = {}
    for run in sorted(group.runs, key=lambda run: run.settings["seed"]):
        settings = {**run.settings, "threads": run.facts["threads"], "device": run.facts["device"]}
        line = command("train", words({**base_choice(settings), **overrides(settings)}))
        seeds = by_rest.setdefault(line, [])
        if run.settings["seed"] not in seeds:
            seeds.append(run.settings["seed"])
    return [looped(rest, seeds) for rest, seeds in by_rest.items()]


def words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as one types them."""
    return [as_word(key, value).replace(", ", ",") for key, value in settings.items()]


def looped(command: str, seeds: Sequence[int]) -> str:
    """A command for one seed, or for several in turn."""
    if len(seeds) == 1:
        return f"{command} seed={seeds[0]}"
    return f"for seed in {' '.join(map(str, seeds))}; do {command} seed=$seed; done"


def differences(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """What the configs of the labels differ in: the labels, and a row [key, value of each label, ...] for each key.

    A label whose value is not the same in all tasks shows each; a setting that it does not have is a dash.
    """
    labels = list(dict.fromkeys(group.label for group in groups))
    values: dict[str, dict[str, str]] = {label: {} for label in labels}
    for label in labels:
        members = [shared(group.runs[0]) for group in groups if group.label == label]
        for key in dict.fromkeys(key for settings in members for key in settings):
            found = dict.fromkeys(shown(settings.get(key)) for settings in members)
            values[label][key] = " or ".join(found)
    keys = sorted({key for row in values.values() for key in row if not key.startswith("env.")} - {"algo.name"})
    rows = [[key, *(values[label].get(key, NOTHING) for label in labels)] for key in keys]
    return labels, [row for row in rows if len(set(row[1:])) > 1]
