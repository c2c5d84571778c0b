"""risk.onnx: what the critics expect of an observation and an action, beside policy.onnx, under the same contract.

    obs, action -> trusted? -> normalise, unit actions -> critics -> the task's units -> mean, sigma

mean is the smaller of the critics' means; sigma the deviation of an equal mixture of the critics, the root of
mean sigma_i^2 + variance of mu_i, as dsac.evaluation.falls judges it. Infinite where an input cannot be trusted.

Letters: E critics, n rows, O observation, A action.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dsac.algorithms.base import Algorithm
from dsac.algorithms.dsac_x import FIRST_SIGMA, HIGHEST_LOG, LOWEST_LOG, SpreadCritics
from dsac.errors import ConfigError
from dsac.evaluation.critic_predictions import predict_each
from dsac.export.layers import FloatArray, Layer, as_array
from dsac.export.onnx_graph import Graph, assembled, dense
from dsac.export.parity import TOLERANCE
from dsac.nn.networks import MLP, Critics

SIGMA_OUTPUT = 1  # of the two outputs, of a critic and of the network of its spreads
MEANING = {
    "inputs": ["obs", "action"],
    "outputs": ["mean", "sigma"],
    "mean": "the smaller of the critics' means of the discounted return, in the task's units",
    "sigma": "deviation of that return by an equal mixture of the critics; infinite where an input is not trusted",
}


class RiskParity(NamedTuple):
    """obs (n, O), action (n, A) in the task's units, float32; mean, sigma (n,) as the critics say in float64.

    scale  (2,) root mean square of each: errors are relative to it, or to a value that is larger
    """

    obs: FloatArray
    action: FloatArray
    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    scale: NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """risk-parity.npz."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, tolerance=np.float64(TOLERANCE), **self._asdict())
        return buffer.getvalue()


def critics_with_spread(algorithm: Algorithm) -> Critics:
    """The critics of one learner. Raises ConfigError where they learn no spread of the return."""
    critics = algorithm.critic_network()
    spread = isinstance(critics, SpreadCritics)
    if not isinstance(critics, Critics) or not (spread or critics.net.output.weight.shape[-1] == 2):
        raise ConfigError(
            f"risk=true: the critics of algo={algorithm.config.name} learn no spread of the return; those of dsac_x do"
        )
    return critics


def risk_facts(algorithm: Algorithm) -> dict[str, Any]:
    """What the contract says of risk.onnx."""
    count = critics_with_spread(algorithm).net.output.weight.shape[1]
    return {**MEANING, "critics": count, "gamma": algorithm.config.gamma, "soft": algorithm_is_soft(algorithm)}


def algorithm_is_soft(algorithm: Algorithm) -> bool:
    """Whether the return counts the reward for entropy."""
    zeros = (torch.zeros(1, 1, size) for size in (algorithm.spec.obs_dim, algorithm.spec.action_dim))
    return algorithm.sample_action(*zeros)[1] is not None


@torch.no_grad()
def risk_parity(algorithm: Algorithm, obs: FloatArray, action: FloatArray, seed: int) -> RiskParity:
    """The critics' own answers: to the rows of the policy's parity set, and to random actions there."""
    spec, draw = algorithm.spec, np.random.default_rng(seed)
    drawn = draw.uniform(spec.action_low, spec.action_high, action.shape).astype(np.float32)
    obs, action = np.concatenate((obs, obs)), np.concatenate((action, drawn))
    exact = copy.deepcopy(algorithm).double()
    low, high = (limit.astype(np.float64) for limit in (spec.action_low, spec.action_high))
    unit = np.clip(2 * (action - low) / (high - low) - 1, -1, 1)
    each = predict_each(exact, torch.from_numpy(obs).double()[None], torch.from_numpy(unit)[None])
    assert each.sigma is not None
    mean = each.mean[0].amin(0).numpy()
    sigma = (each.sigma[0].square().mean(0) + each.mean[0].var(0, unbiased=False)).sqrt().numpy()
    scale = np.sqrt([np.mean(np.square(value)) for value in (mean, sigma)])
    return RiskParity(obs, action, mean, sigma, scale)


def write_risk(algorithm: Algorithm, obs_abs_max: float, contract: Mapping[str, Any], dynamic: bool) -> bytes:
    """The file. Raises ConfigError without the extra `export`."""
    graph, spec, critics = Graph(), algorithm.spec, critics_with_spread(algorithm)
    limits = (spec.action_low, spec.action_high)
    obs, obs_trusted = trusted(graph, "obs", [-obs_abs_max], [obs_abs_max])
    action, action_trusted = trusted(graph, "action", *limits)
    x = graph("Concat", normalised(graph, algorithm, obs), unit_action(graph, action, *limits), axis=1)
    said = [critic(graph, critics, index, x) for index in range(critics.net.output.weight.shape[1])]
    means = graph("Concat", *(mean for mean, _ in said), axis=1)
    squares = graph("Concat", *(graph("Mul", sigma, sigma) for _, sigma in said), axis=1)
    centred = graph("Sub", means, graph("ReduceMean", means, axes=[1], keepdims=1))
    total = graph("ReduceMean", graph("Add", squares, graph("Mul", centred, centred)), axes=[1], keepdims=0)
    unit = graph.array("return_unit", 1 / float(algorithm.reward_factor()))
    every = graph("And", obs_trusted, action_trusted)
    infinite = graph.array("infinite", np.inf)
    for name, value in (
        ("mean", graph("ReduceMin", means, axes=[1], keepdims=0)),
        ("sigma", graph("Sqrt", total)),
    ):
        graph("Where", every, graph("Mul", value, unit), infinite, name=name)
    sizes = {"obs": spec.obs_dim, "action": spec.action_dim}
    return assembled(graph, "risk", sizes, {"mean": ("FLOAT", ()), "sigma": ("FLOAT", ())}, contract, dynamic)


def trusted(graph: Graph, name: str, low: Any, high: Any) -> tuple[str, str]:
    """An input with zeros for what is not finite or beyond the limits, and whether a row (n,) has none of that."""
    above = graph("GreaterOrEqual", name, graph.array(f"{name}_least", low))  # also false for what is not a number
    good = graph("And", above, graph("LessOrEqual", name, graph.array(f"{name}_most", high)))
    every = graph("ReduceMin", graph.cast(good, "FLOAT"), axes=[1], keepdims=0)
    return graph("Where", good, name, graph.array("zero", 0)), graph.cast(every, "BOOL")


def normalised(graph: Graph, algorithm: Algorithm, x: str) -> str:
    """What the networks see of an observation."""
    found = algorithm.observations
    if found is None:
        return x
    x = graph("Sub", x, graph.array("obs_mean", as_array(found.mean)[0]))
    x = graph("Mul", x, graph.array("obs_inverse_std", as_array(found.inverse_std)[0]))
    return graph("Clip", x, graph.array("clip_low", -found.clip), graph.array("clip_high", found.clip))


def unit_action(graph: Graph, action: str, low: FloatArray, high: FloatArray) -> str:
    """From the task's units to [-1, 1]."""
    share = graph("Div", graph("Sub", action, graph.array("action_low", low)), graph.array("action_range", high - low))
    return graph("Sub", graph("Mul", share, graph.array("two", 2)), graph.array("one", 1))


def critic(graph: Graph, critics: Critics, index: int, x: str) -> tuple[str, str]:
    """Mean and sigma (n, 1) of one critic, in its own unit."""
    name = f"critic_{index}"
    for place, layer in enumerate(hidden_layers(critics.net, index)):
        x = dense(graph, f"{name}_layer_{place}", layer, x)
    mean = dense(graph, f"{name}_mean", output_layer(critics.net, index, 0), x)
    if not isinstance(critics, SpreadCritics):
        return mean, graph("Softplus", dense(graph, f"{name}_sigma", output_layer(critics.net, index, SIGMA_OUTPUT), x))
    for place, layer in enumerate(hidden_layers(critics.spread, index)):
        x = dense(graph, f"{name}_spread_{place}", layer, x)
    log = dense(graph, f"{name}_sigma", output_layer(critics.spread, index, SIGMA_OUTPUT), x)
    log = graph("Add", log, graph.array("first_log_sigma", np.log(FIRST_SIGMA)))
    limits = graph.array("lowest_log", LOWEST_LOG), graph.array("highest_log", HIGHEST_LOG)
    return mean, graph("Exp", graph("Clip", log, *limits))


def hidden_layers(net: MLP, index: int) -> list[Layer]:
    """The hidden layers of one critic of the first learner."""
    found = []
    for place, linear in enumerate(net.hidden):
        norm = None if net.norms is None else net.norms[place]
        gain, offset = (None, None) if norm is None else (row(norm.weight, index), row(norm.bias, index))
        found.append(Layer(as_array(linear.weight)[0, index], row(linear.bias, index), gain, offset, net.activation))
    return found


def output_layer(net: MLP, index: int, output: int) -> Layer:
    """One output of the last layer of one critic of the first learner."""
    weight, bias = as_array(net.output.weight)[0, index, :, [output]].T, row(net.output.bias, index)[[output]]
    return Layer(np.ascontiguousarray(weight), bias, None, None, None)


def row(parameter: Any, index: int) -> FloatArray:
    """(1, E, 1, features) -> (features,)."""
    found: FloatArray = as_array(parameter)[0, index, 0]
    return found
