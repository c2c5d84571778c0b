"""Labels: an algorithm's name with the settings that set it apart, as one types them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from dsac.compare.overrides import experiment_matters, overrides
from dsac.config import choices
from dsac.schema.ranges import FREE, MEASURE
from dsac.schema.run_config import of_kind, that_change

NAMES = {
    "dsac_t": "DSAC-T",
    "dsac_v1": "DSAC-v1",
    "dsac_x": "DSAC-X",
    "sac": "SAC",
    "td3": "TD3",
    "ddpg": "DDPG",
    "ppo": "PPO",
}
LENGTHS = [key for key in of_kind(MEASURE) if key in that_change(FREE)]  # said where groups differ in nothing else
WorthSaying = Callable[[Mapping[str, Any], Mapping[str, Any]], Collection[str]]  # values and settings to keys
Distinctions = tuple[tuple[str, Any], ...]  # settings, dotted keys with their values, in the order of a label


def rank(algorithm: str) -> int:
    """The place of an algorithm in a table: ours in the order of NAMES, then others."""
    return list(NAMES).index(algorithm) if algorithm in NAMES else len(NAMES)


def label_of(algorithm: str, said: Distinctions) -> str:
    """An algorithm by its name, or a label so far, with settings as one types them."""
    return " ".join([NAMES.get(algorithm, algorithm), *(shown(key, value) for key, value in said)])


def told_apart(
    rows: Sequence[tuple[str, str, dict[str, Any], Mapping[str, Any]]], worth_saying: WorthSaying
) -> list[str]:
    """The labels of rows (task, label, values, settings), each with those of its values that are worth saying."""
    return [
        label_of(label, said) for (_, label, _, _), said in zip(rows, distinctions(rows, worth_saying), strict=True)
    ]


def distinctions(
    rows: Sequence[tuple[str, str, dict[str, Any], Mapping[str, Any]]], worth_saying: WorthSaying
) -> list[Distinctions]:
    """Those of the values of rows (task, label, values, settings) that are worth saying.

    Only where rows of the same task and label differ, and then in all tasks: a label means the same in each of them.
    """
    keys = {
        same: differing_keys([(env, values) for env, label, values, _ in rows if label == same])
        for same in dict.fromkeys(label for _, label, _, _ in rows)
    }
    found = []
    for _, label, values, settings in rows:
        said = worth_saying(values, settings) if keys[label] else ()
        found.append(tuple((key, values.get(key)) for key in keys[label] if key in said))
    return found


def departing(values: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """The keys in which a run departs from what its task, algorithm and experiment bring; the experiment if it counts.

    Of an experiment that is a file its name alone.
    """
    named, known = values["experiment"], settings.get("experiment") in (None, *choices("experiment"))
    counts = {"experiment"} if named and (not known or experiment_matters(settings)) else set()
    return {"simulator", *counts, *(overrides(settings) if known else ())} - set(LENGTHS)


def differing_keys(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The keys in which the values of rows of the same task differ, the experiment first."""
    tasks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for env, values in rows:
        tasks[env].append(values)
    found = {
        key
        for same in tasks.values()
        for key in {key for values in same for key in values}
        if len({json.dumps(values.get(key)) for values in same}) > 1
    }
    return sorted(found, key=lambda key: (key != "experiment", key))


def shown(key: str, value: Any) -> str:
    """A setting in a label: `critic_loss=paper` for algo.critic_loss, an experiment or a simulator by its name."""
    if key in ("experiment", "simulator"):
        return str(value)
    text = json.dumps(value) if isinstance(value, list | bool) or value is None else str(value)
    return f"{key.rpartition('.')[2] if key.startswith('algo.') else key}={text}"
