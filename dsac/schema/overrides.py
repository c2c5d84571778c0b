"""key=value overrides of a command line taken apart, and what people write who come from other programs: a line each.

Whatever takes an override apart does it here.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence

CHOICES = ("env", "algo", "experiment")
SEVERAL = ("-m", "--multirun")
OTHER_CONFIGS = ("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd")
OF_A_SWEEP = {"seed": "seeds"}


def key_values(
    overrides: Sequence[str], problems: list[str], *, one_run: bool = True, known: Collection[str] = CHOICES
) -> list[tuple[str, str]]:
    """The overrides as pairs; what is malformed is noted, a line each.

    one_run: several values for a choice or a seed are noted, too. known: keys that count as given although they were
    written another way, so that nobody is told that they are missing.
    """
    pairs: list[tuple[str, str]] = []
    several: list[tuple[str, str]] = []
    flags: list[str] = []
    for key, sign, value in separated(overrides):
        typed, plain = f"{key}{sign}{value}", key.lstrip("+~-")
        if key in SEVERAL:
            flags.append(typed)
        elif key in OTHER_CONFIGS:
            problems.append(
                f"{typed!r}: there is one config, conf/train.yaml; choose with env=, algo= and experiment= (a name or "
                "a yaml file)"
            )
        elif plain.startswith("hydra."):
            problems.append(f"{typed!r}: nothing here is set through Hydra; runs=<folder> says where run folders go")
        elif "${" in typed:
            problems.append(f"{typed}: a value stands for itself, ${{...}} is not resolved")
        elif key.startswith("~") and plain:
            problems.append(f"{typed!r}: a setting cannot be taken out; left out it has its default (see --help)")
        elif key != plain and plain and sign:
            problems.append(f"{typed!r}: write {plain}={value}")
            pairs += [(plain, value)] if plain in known else []
        elif not sign or not plain:
            problems.append(f"{typed!r} is not key=value (see --help)")
        elif one_run and (key == "seeds" or (key in (*CHOICES, "seed") and "," in value)):
            several.append((key, value))
        else:
            pairs.append((key, value))
    if flags or several:
        typed = shlex.join([*flags, *(f"{key}={value}" for key, value in several)])
        sweep = shlex.join(f"{OF_A_SWEEP.get(key, key)}={value}" for key, value in (*pairs, *several))
        sweep = sweep if several else "env=A,B algo=X,Y seeds=0..4"
        problems.append(f"{typed}: several runs are python -m dsac.sweep {sweep}")
    return pairs


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides that were checked before, each by its key; of several for one key the last."""
    return {key: value for key, _, value in (override.partition("=") for override in overrides)}


def split_off(overrides: Sequence[str], *keys: str) -> tuple[dict[str, str], list[str]]:
    """The overrides of some keys, and of the sections below them, by key; and all the others."""
    below = tuple(f"{key}." for key in keys)
    given = [(override, *override.partition("=")) for override in overrides]
    own = [override for override, key, sign, _ in given if sign and (key in keys or key.startswith(below))]
    return by_key(own), [override for override in overrides if override not in own]


def separated(overrides: Sequence[str]) -> list[tuple[str, str, str]]:
    """key=value as (key, "=", value), and so --key value, as (key, " ", value); any other argument as (it, "", "")."""
    found: list[tuple[str, str, str]] = []
    for argument in overrides:
        key, sign, value = argument.partition("=")
        alone = found and found[-1][0].startswith("-") and not found[-1][1] and found[-1][0] not in SEVERAL
        if alone and not sign and not argument.startswith("-"):
            found[-1] = (found[-1][0], " ", argument)
        else:
            found.append((key, sign, value))
    return found


def same_name(name: str, known: Sequence[str]) -> str | None:
    """The known name that differs in case and punctuation alone, None where there is none."""
    return next((other for other in known if letters(other) == letters(name)), None)


def near_name(name: str, known: Sequence[str]) -> str | None:
    """The known name that begins like a name, or is spelled most like it; None where none is near."""
    by_letters = {letters(other): other for other in reversed(known)}
    if begins := [other for other in known if letters(name) and letters(other).startswith(letters(name))]:
        return begins[0]
    near = difflib.get_close_matches(letters(name), by_letters, 1)
    return by_letters[near[0]] if near else None


def letters(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[\W_]", "", name.lower())
