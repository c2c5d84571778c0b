"""What a controller does when an observation cannot be trusted, read from its setting."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsac.errors import ConfigError
from dsac.schema.validate import plain_value
from envs import ANY_GYMNASIUM_ID, CUSTOM
from envs.contract import EnvSpec


class SafeAction(NamedTuple):
    """What to do when an observation cannot be trusted.

    kind   "zero", "vector", or "last": the last valid action, which only a runtime with memory can keep
    value  (A,) in the task's units: the action, or with "last" what is done before there was a valid one
    """

    kind: str
    value: NDArray[np.float32]


def safe_action(word: Any, spec: EnvSpec) -> SafeAction:
    """zero, last or a vector such as [0.1,-0.2]; None: zero, or within the limits what is nearest to it.

    Raises ConfigError for what the actuators cannot do.
    """
    low, high = spec.action_low, spec.action_high
    nearest = np.clip(np.zeros_like(low), low, high)
    if word == "last":
        return SafeAction("last", nearest)
    if word is None and nearest.any():
        return SafeAction("vector", nearest)
    if word in (None, "zero"):
        kind, value = "zero", np.zeros_like(low)
    else:
        given = plain_value(str(word))
        numbers = given if isinstance(given, list) else [given]
        if not all(isinstance(number, int | float) for number in numbers) or len(numbers) != spec.action_dim:
            raise ConfigError(
                f"safe_action={word} must be zero, last or a list of {spec.action_dim} numbers, one for each of "
                f"{', '.join(spec.action_names)}"
            )
        kind, value = "vector", np.asarray(numbers, np.float32)
    for name, number, lowest, highest in zip(spec.action_names, value, low, high, strict=True):
        if not lowest <= number <= highest:
            choice = ",".join(f"{entry:g}" for entry in np.clip(value, low, high))
            raise ConfigError(
                f"safe_action: {number:g} for {name} is outside its limits, {lowest:g} to {highest:g}; choose with "
                f"safe_action=[{choice}] or the like, or last (export.safe_action of a training)"
            )
    return SafeAction(kind, value)


def safe_action_warning(word: Any, env_name: str, key: str = "safe_action") -> str | None:
    """One line for a robot of one's own whose owner has not said what is safe; None otherwise."""
    if word is not None or env_name not in (CUSTOM, ANY_GYMNASIUM_ID):
        return None
    return (
        f"{key} is not set, so zero, or what its limits allow nearest to zero, is what this robot does when an "
        f"observation cannot be trusted. Zero torque lets a standing robot fall: set {key}=zero if zero is right, "
        "else last or a list"
    )
