"""policy.onnx: one self-contained graph from the raw observation to the action in the task's units.

    obs -> trusted? -> normalise -> layers -> head -> action range -> limits -> actions, valid

Opset 17 and IR 8, which deployed runtimes read. The names `obs` and `actions`, float32, stay as they are.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsac.errors import ConfigError
from dsac.export.layers import FloatArray, Layer, Layers
from dsac.schema.safe_action import SafeAction

OPSET, IR_VERSION = 17, 8
LAYER_NORM_EPSILON = 1e-5  # torch's
CONSTANTS = {"zero", "one", "half", "half_root", "minus_one", "clip_low", "clip_high", "obs_abs_max", "safe_action"}
MISSING_EXTRA = "ONNX needs packages that are not installed: pip install -e '.[export]'"


def onnx_module() -> Any:
    """The package onnx. Raises ConfigError without it, or without onnxruntime, which checks what it writes."""
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(MISSING_EXTRA) from error
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(MISSING_EXTRA)
    return onnx


class Graph:
    """Nodes and initialisers under construction; a call appends a node and returns the name of its output."""

    def __init__(self) -> None:
        self.onnx = onnx_module()
        self.nodes: list[Any] = []
        self.arrays: dict[str, FloatArray] = {}

    def array(self, name: str, value: Any) -> str:
        """A named constant."""
        self.arrays[name] = np.asarray(value, np.float32)
        return name

    def __call__(self, operation: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{operation}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operation, inputs, [output], output, **attributes))
        return output

    def cast(self, value: str, kind: str, name: str | None = None) -> str:
        """A value as BOOL or FLOAT."""
        return self("Cast", value, name=name, to=getattr(self.onnx.TensorProto, kind))


def write_onnx(
    layers: Layers, obs_abs_max: float, safe: SafeAction, contract: Mapping[str, Any], dynamic: bool
) -> bytes:
    """The file. `contract` becomes its metadata, a JSON value a key. Raises ConfigError without the extra `export`."""
    graph = Graph()
    trusted = graph("And", graph("Not", graph("IsNaN", "obs")), within(graph, obs_abs_max))
    x = graph("Where", trusted, "obs", graph.array("zero", 0))
    actions = to_actions(graph, layers, network(graph, layers, normalised(graph, layers, x)))
    finite = graph("Not", graph("IsNaN", actions))
    flags = [graph.cast(flag, "FLOAT") for flag in (trusted, finite)]
    every = graph("Mul", *(graph("ReduceMin", flag, axes=[1], keepdims=1) for flag in flags))
    column = graph.cast(every, "BOOL")
    graph("Where", column, actions, graph.array("safe_action", safe.value), name="actions")
    graph.cast(graph("ReduceMin", every, axes=[1], keepdims=0), "BOOL", name="valid")
    outputs = {"actions": ("FLOAT", [layers.action_dim]), "valid": ("BOOL", [])}
    return assembled(graph, "policy", {"obs": layers.obs_dim}, outputs, contract, dynamic)


def within(graph: Graph, obs_abs_max: float) -> str:
    """Which entries are at most obs_abs_max in size."""
    return graph("LessOrEqual", graph("Abs", "obs"), graph.array("obs_abs_max", obs_abs_max))


def normalised(graph: Graph, layers: Layers, x: str) -> str:
    """clip((x - mean) * inverse_std), or x of a policy that sees the raw observation."""
    if layers.mean is None or layers.clip is None:
        return x
    x = graph("Sub", x, graph.array("obs_mean", layers.mean))
    x = graph("Mul", x, graph.array("obs_inverse_std", layers.inverse_std))
    return graph("Clip", x, graph.array("clip_low", -layers.clip), graph.array("clip_high", layers.clip))


def network(graph: Graph, layers: Layers, x: str) -> str:
    """The layers, one after another."""
    for index, layer in enumerate(layers.layers):
        x = dense(graph, f"layer_{index}", layer, x)
    return x


def dense(graph: Graph, name: str, layer: Layer, x: str) -> str:
    """One layer: linear, layer normalisation, activation."""
    x = graph("Gemm", x, graph.array(f"{name}_weight", layer.weight), graph.array(f"{name}_bias", layer.bias))
    if layer.gain is not None:
        gain, offset = graph.array(f"{name}_gain", layer.gain), graph.array(f"{name}_offset", layer.offset)
        x = graph("LayerNormalization", x, gain, offset, axis=-1, epsilon=LAYER_NORM_EPSILON)
    match layer.activation:
        case None:
            return x
        case "relu":
            return graph("Relu", x)
        case "tanh":
            return graph("Tanh", x)
        case "silu":
            return graph("Mul", x, graph("Sigmoid", x))
        case "gelu":  # exact; the operator of that name came with opset 20
            erf = graph("Erf", graph("Mul", x, graph.array("half_root", math.sqrt(0.5))))
            return graph("Mul", graph("Mul", x, graph.array("half", 0.5)), graph("Add", erf, graph.array("one", 1)))
    raise ValueError(f"no ONNX for the activation {layer.activation!r}")


def to_actions(graph: Graph, layers: Layers, x: str) -> str:
    """The head, then the task's range in the form of dsac.nn.policy, which reaches both limits, then the limits."""
    low, high = graph.array("action_low", layers.low), graph.array("action_high", layers.high)
    one, half = graph.array("one", 1), graph.array("half", 0.5)
    unit = graph("Tanh", x) if layers.head == "tanh" else graph("Clip", x, graph.array("minus_one", -1), one)
    share = graph("Mul", graph("Add", unit, one), half)
    action = graph("Add", graph("Mul", low, graph("Sub", one, share)), graph("Mul", high, share))
    return graph("Min", graph("Max", action, low), high)


def assembled(
    graph: Graph,
    name: str,
    inputs: Mapping[str, int],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
    contract: Mapping[str, Any],
    dynamic: bool,
) -> bytes:
    """The checked model. inputs: sizes of float32 rows; outputs: kind and shape of a row; `contract`: its metadata."""
    onnx, rows = graph.onnx, "batch" if dynamic else 1
    helper, kinds = onnx.helper, onnx.TensorProto
    told = {key: (kind, (rows, *shape)) for key, (kind, shape) in outputs.items()}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [helper.make_tensor_value_info(key, kinds.FLOAT, [rows, size]) for key, size in inputs.items()],
            [helper.make_tensor_value_info(key, getattr(kinds, kind), shape) for key, (kind, shape) in told.items()],
            [onnx.numpy_helper.from_array(array, key) for key, array in graph.arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dsac",
        producer_version=str(contract["versions"]["dsac"]),
    )
    helper.set_model_props(model, {key: json.dumps(value) for key, value in contract.items()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def weights_of(content: bytes) -> dict[str, FloatArray]:
    """The arrays of the policy that a file holds, read back."""
    onnx = onnx_module()
    graph = onnx.load_from_string(content).graph
    return {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer if array.name not in CONSTANTS}
