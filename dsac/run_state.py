"""What the state of a run holds at least, and whether arrays fit where they go. A hash says nothing of either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from dsac.commit import CheckpointError

FORM = {
    "trainer": {
        "env_steps": int,
        "warmup_env_steps": int,
        "wall_time": (int, float),
        "metrics": dict,
        "algorithm": dict,
        "updater": {"count": int, "generators": list},
        "collector": dict,
        "memory": dict,
    },
    "evaluator": {"best": dict, "owed": bool},
    "logger": {"curves": list},
}


def check_form(state: Any, form: Mapping[str, Any] = FORM, path: str = "") -> None:
    """Raise CheckpointError where the state of a run lacks a part, or has another kind of value in its place."""
    if not isinstance(state, dict):
        raise CheckpointError(f"its {path.rstrip('.') or 'state'} is a {type(state).__name__} without parts")
    for name, kind in form.items():
        if name not in state:
            raise CheckpointError(f"its state lacks {path}{name}")
        if isinstance(kind, dict):
            check_form(state[name], kind, f"{path}{name}.")
        elif not isinstance(state[name], kind):
            raise CheckpointError(f"its {path}{name} is a {type(state[name]).__name__}")


def check_arrays(found: Any, wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless `found` holds an array of the same shape and type for each tensor, and no other."""
    if not isinstance(found, dict):
        raise CheckpointError(f"{what} is a {type(found).__name__} without names")
    for name in sorted(wanted.keys() | found.keys(), key=str):
        if name not in found or name not in wanted:
            raise CheckpointError(f"{what} {'lacks' if name in wanted else 'has an unknown'} {name}")
        check_array(found[name], wanted[name], f"{name} of {what}", tuple(wanted[name].shape))


def check_array(found: Any, wanted: Tensor, what: str, *shapes: tuple[int, ...]) -> None:
    """Raise CheckpointError unless an array has the type of a tensor and one of these shapes."""
    kind = str(wanted.dtype).removeprefix("torch.")
    if not isinstance(found, np.ndarray) or found.dtype != kind:
        raise CheckpointError(f"{what} is of type {getattr(found, 'dtype', type(found).__name__)}, expected {kind}")
    if found.shape not in shapes:
        raise CheckpointError(f"{what} has the shape {found.shape}, expected {' or '.join(map(str, shapes))}")
