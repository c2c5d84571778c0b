"""policy.h, C99 and C++: policy.h.in holds the code, and here is what goes into its gaps."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsac.export.layers import FloatArray, Layers
from dsac.export.parity import TOLERANCE, ParitySet
from dsac.export.units import in_words
from dsac.schema.plain_text import in_source
from dsac.schema.safe_action import SafeAction

TEMPLATE = Path(__file__).with_name("policy.h.in")
CHECKED_NUMBERS = 12_000  # how much of the parity set goes into the header
NUMBERS_A_LINE = 8
ACTIVATIONS = {
    "gelu": "0.5f * x[j] * (1.0f + erff(x[j] * 0.707106781f))",
    "relu": "x[j] < 0.0f ? 0.0f : x[j]",
    "silu": "x[j] / (1.0f + expf(-x[j]))",
    "tanh": "tanhf(x[j])",
}
HEADS = {"tanh": "tanhf({row}[j])", "clip": "policy_clamp({row}[j], -1.0f, 1.0f)"}


def write_header(
    layers: Layers, obs_abs_max: float, safe: SafeAction, contract: Mapping[str, Any], parity: ParitySet
) -> str:
    """The text of policy.h."""
    rows = checked_rows(parity)
    output = "ab"[len(layers.layers) % 2]
    arrays = {**layers.arrays(), "safe_action": safe.value}
    return string.Template(TEMPLATE.read_text()).substitute(
        about=about(contract),
        env=quoted(contract["env"]),
        weights_sha256=quoted(contract["weights_sha256"]),
        obs_dim=layers.obs_dim,
        action_dim=layers.action_dim,
        period=repr(contract["control_period_seconds"] or 0.0),
        obs_abs_max=number(obs_abs_max),
        keeps_last=int(safe.kind == "last"),
        obs_names=name_list(contract["obs_names"]),
        action_names=name_list(contract["action_names"]),
        arrays="\n".join(array(name, values) for name, values in arrays.items()),
        activation=ACTIVATIONS[layers.layers[0].activation or "relu"],
        safe_action=", ".join(number(value) for value in safe.value.tolist()),
        widest=max(layers.obs_dim, *(len(layer.bias) for layer in layers.layers)),
        normalised=normalised(layers),
        layers="\n".join(steps(layers)),
        output=output,
        head=HEADS[layers.head].format(row=output),
        checked=len(rows),
        checked_obs=body(parity.obs[rows]),
        checked_actions=body(parity.actions[rows]),
        allowed=body(TOLERANCE * parity.half_range),
    )


def about(contract: Mapping[str, Any]) -> str:
    """The contract for people, as lines of a comment."""
    columns = (contract[f"action_{key}"] for key in ("names", "low", "high", "semantics"))
    lines = [
        f"The {contract['which']} policy at {contract['env_steps']:,} env steps of {contract['run']}, "
        f"learner {contract['learner']}: {contract['algorithm']} on {contract['env']}.",
        f"Safe action: {contract['safe_action']['kind']}, {contract['safe_action']['value']}",
        "obs, with units:",
        *(
            f"  {index:4} {name}, {unit or 'unit as the task defines it'}"
            for index, (name, unit) in enumerate(zip(contract["obs_names"], contract["obs_units"], strict=True))
        ),
        "actions:",
        *(
            f"  {index:4} {name}, {low!r} to {high!r}: {in_words(meaning)}"
            for index, (name, low, high, meaning) in enumerate(zip(*columns, strict=True))
        ),
    ]
    return "\n".join(f" * {in_source(line)}" for line in lines)


def normalised(layers: Layers) -> str:
    """Entry i of what the net sees."""
    if layers.mean is None or layers.clip is None:
        return "obs[i]"
    clip = number(layers.clip)
    return f"policy_clamp((obs[i] - policy_obs_mean[i]) * policy_obs_inverse_std[i], -{clip}, {clip})"


def steps(layers: Layers) -> Iterable[str]:
    """The calls of the layers, from one of the two rows a and b to the other."""
    for index, layer in enumerate(layers.layers):
        source, target = "ab"[index % 2], "ba"[index % 2]
        (inputs, outputs), name = layer.weight.shape, f"policy_layer_{index}"
        yield f"    policy_dense({source}, {name}_weight, {name}_bias, {target}, {inputs}, {outputs});"
        if layer.gain is not None:
            yield f"    policy_layer_norm({target}, {name}_gain, {name}_offset, {outputs});"
        if layer.activation is not None:
            yield f"    policy_activate({target}, {outputs});"


def checked_rows(parity: ParitySet) -> Sequence[int]:
    """The rows that policy_check() tries, evenly from the whole set."""
    count = int(np.clip(CHECKED_NUMBERS // (parity.obs.shape[1] + parity.actions.shape[1]), 8, 256))
    return [int(row) for row in np.linspace(0, len(parity.obs) - 1, count)]


def name_list(names: Sequence[str]) -> str:
    """C strings, one a line."""
    return ",\n".join(f"        {quoted(name)}" for name in names)


def array(name: str, values: FloatArray) -> str:
    """A constant array, row after row."""
    return f"static const float policy_{name}[{values.size}] = {{\n{body(values)}\n}};\n"


def body(values: FloatArray) -> str:
    """The numbers of an array, some a line."""
    words = [number(value) for value in values.ravel().tolist()]
    lines = (words[start : start + NUMBERS_A_LINE] for start in range(0, len(words), NUMBERS_A_LINE))
    return ",\n".join("    " + ", ".join(line) for line in lines)


def number(value: float) -> str:
    """A float32 in nine digits, which give it back to the bit."""
    word = f"{value:.9g}"
    return f"{word}f" if "." in word or "e" in word else f"{word}.0f"


def quoted(text: str) -> str:
    """A C string; what is not printable ASCII becomes a question mark."""
    return '"' + in_source(text).replace('"', '\\"') + '"'


def weights_of(header: str) -> dict[str, FloatArray]:
    """The policy's arrays that a header holds, read back, flat."""
    found = re.findall(r"^static const float policy_(\w+)\[\d+\] = \{\n(.*?)\n\};", header, re.DOTALL | re.MULTILINE)
    return {
        name: np.array([word.rstrip("f") for word in text.replace(",", " ").split()], np.float64).astype(np.float32)
        for name, text in found
        if name != "safe_action"
    }
