"""A policy laid open as plain arrays, for those who write it down in another language."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsac.errors import ExportRefused
from dsac.nn.policy import Policy

FloatArray = NDArray[np.float32]


class Layer(NamedTuple):
    """x -> activation(gain * standardised(x @ weight + bias) + offset); without gain: activation(x @ weight + bias).

    weight (inputs, outputs), bias (outputs,), gain and offset (outputs,) of a layer normalisation or None; activation
    None on the last layer.
    """

    weight: FloatArray
    bias: FloatArray
    gain: FloatArray | None
    offset: FloatArray | None
    activation: str | None


class Layers(NamedTuple):
    """dsac.nn.policy.Policy step by step: the normaliser, the layers, the head, the action range.

    mean, inverse_std (O,) and clip are None together. The last layer has only the A outputs that the policy acts by.
    head: "tanh" or "clip". low, high (A,) in the task's units.
    """

    mean: FloatArray | None
    inverse_std: FloatArray | None
    clip: float | None
    layers: tuple[Layer, ...]
    head: str
    low: FloatArray
    high: FloatArray

    @property
    def obs_dim(self) -> int:
        return len(self.layers[0].weight)

    @property
    def action_dim(self) -> int:
        return len(self.low)

    def arrays(self) -> dict[str, FloatArray]:
        """Every array by the name that it has in each exported file."""
        found = {"obs_mean": self.mean, "obs_inverse_std": self.inverse_std}
        for index, layer in enumerate(self.layers):
            parts = {"weight": layer.weight, "bias": layer.bias, "gain": layer.gain, "offset": layer.offset}
            found |= {f"layer_{index}_{name}": array for name, array in parts.items()}
        found |= {"action_low": self.low, "action_high": self.high}
        return {name: array for name, array in found.items() if array is not None}


def layers_of(policy: Policy) -> Layers:
    """The arrays of the very module that evaluation runs. Raises ExportRefused where one is not finite."""
    net, normalised = policy.net, policy.description["obs_clip"] is not None
    layers = []
    for index, linear in enumerate(net.hidden):
        norm = None if net.norms is None else net.norms[index]
        gain, offset = (None, None) if norm is None else (as_array(norm.weight)[0], as_array(norm.bias)[0])
        layers.append(Layer(as_array(linear.weight), as_array(linear.bias)[0], gain, offset, net.activation))
    actions = len(policy.action_low)
    weight, bias = as_array(net.output.weight)[:, :actions], as_array(net.output.bias)[0, :actions]
    found = Layers(
        as_array(policy.obs_mean) if normalised else None,
        as_array(policy.obs_inverse_std) if normalised else None,
        float(policy.description["obs_clip"]) if normalised else None,
        (*layers, Layer(np.ascontiguousarray(weight), bias, None, None, None)),
        policy.description["head"],
        as_array(policy.action_low),
        as_array(policy.action_high),
    )
    for name, array in found.arrays().items():
        if not np.isfinite(array).all():
            raise ExportRefused(f"{name} of the policy holds a number that is not finite: its training has diverged")
    return found


def as_array(tensor: Any) -> FloatArray:
    """A parameter or a buffer as a float32 copy."""
    array: FloatArray = tensor.detach().cpu().numpy().astype(np.float32)
    return array


def weights_sha256(arrays: Mapping[str, FloatArray]) -> str:
    """SHA-256 over name, shape and little-endian float32 values of every array, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], "<f4")
        digest.update(f"{name} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def check_weights(found: Mapping[str, FloatArray], layers: Layers, file: str) -> None:
    """Raise ExportRefused unless a file holds the policy's arrays to the bit."""
    expected = layers.arrays()
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            raise ExportRefused(f"{file} {'lacks' if name in expected else 'has an unknown'} {name}")
        if not np.array_equal(found[name].ravel(), expected[name].ravel()):
            raise ExportRefused(f"{file} holds another {name} than the policy")
