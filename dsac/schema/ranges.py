"""Config fields that know what a value may be, and what it is a setting of.

The default of a setting stands in its field and nowhere else. The range lets the loader refuse a wrong value before
anything is built. `help` is the line beside it in conf/, which dsac.cli.write_conf makes from the fields. The kind
says what a setting decides, and `change` whether it may differ when a run is resumed; dsac.schema.run_config makes
every list of settings from the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any

# What a setting decides.
TASK = "task"  # what is to be learned
LEARNING = "learning"  # how it is learned
SAMPLE = "sample"  # which of the runs that differ in nothing else
MEASURE = "measure"  # how far a run goes, and how it is measured
MACHINE = "machine"  # how a machine carries it out
RECORD = "record"  # what is written about it, and where
KINDS = (TASK, LEARNING, SAMPLE, MEASURE, MACHINE, RECORD)

# Whether it may differ when a run is resumed.
FREE = "free"
DECLARED = "declared"  # with allow_change=true
FIXED = "fixed"  # the saved state is made for it


def setting(default: Any = MISSING, **rule: Any) -> Any:
    """A setting of any value of its type."""
    return field(default=default, metadata=rule)


def between(default: Any, low: float, high: float, **rule: Any) -> Any:
    """A number in the closed interval [low, high]; `below` names a field that it is less than, see `out_of_order`."""
    return field(default=default, metadata={"low": low, "high": high, **rule})


def share(default: Any, **rule: Any) -> Any:
    """A number above zero and at most one."""
    return field(default=default, metadata={"above": 0, "high": 1, **rule})


def at_least(default: Any, low: float, **rule: Any) -> Any:
    """A number of at least `low`."""
    return field(default=default, metadata={"low": low, **rule})


def positive(default: Any, **rule: Any) -> Any:
    """A number above zero."""
    return field(default=default, metadata={"above": 0, **rule})


def choice(default: str, *options: str, **rule: Any) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"options": options, **rule})


def rules_of(schema: type[Any]) -> Mapping[str, Mapping[str, Any]]:
    """What is said of each field of a dataclass: its range, its kind, its help.

    A field that is declared again, with another default, keeps what is said of it in the class above.
    """
    found: dict[str, dict[str, Any]] = {}
    for base in reversed(schema.__mro__):
        for item in fields(base) if is_dataclass(base) else ():
            found.setdefault(item.name, {}).update(item.metadata)
    return found


def out_of_order(config: Any, section: str) -> list[str]:
    """A line for each field that is not below the one that it must be below."""
    pairs = [(name, rule.get("below")) for name, rule in rules_of(type(config)).items()]
    return [
        f"{section}.{low}={getattr(config, low):g} must be less than {section}.{high}={getattr(config, high):g}"
        for low, high in pairs
        if high is not None and getattr(config, low) >= getattr(config, high)
    ]
