"""Every algorithm, found through conf/algo: equal to a reference, the same stacked or alone, able to learn."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import ALGORITHMS, Target, make_algorithm, make_batch, make_noise, make_spec, make_updater, run_updates

from dsac.algorithms import Algorithm
from dsac.collection.collector import Collector
from dsac.config import choices, conf_folder
from dsac.nn.networks import MLP
from dsac.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden"


def test_every_algorithm_has_a_yaml():
    """Catches an algorithm that cannot be named on the command line, or a yaml without one."""
    assert choices("algo") == ALGORITHMS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_yaml_mirrors_the_config(name: str):
    """Catches a default that differs between file and class, a key that one of them lacks, a number read as text."""
    tree = yaml.safe_load((conf_folder() / "algo" / f"{name}.yaml").read_text())
    config = make_algorithm(name).Config()
    for field in dataclasses.fields(config):
        expected = getattr(config, field.name)
        found = tree.pop(field.name)
        if isinstance(expected, tuple):
            expected = list(expected)
        assert (float(found) if isinstance(expected, float) else found) == expected, field.name
    assert not tree


def layers(net: MLP, index: tuple[int, ...]) -> list[tuple[torch.Tensor, ...]]:
    """The slice of a net as the references take it."""
    hidden = []
    for position, layer in enumerate(net.hidden):
        values = [layer.weight[index], layer.bias[index][0]]
        if net.norms is not None:
            values += [net.norms[position].weight[index][0], net.norms[position].bias[index][0]]
        hidden.append(tuple(values))
    return [*hidden, (net.output.weight[index], net.output.bias[index][0])]


def networks_of(algorithm: Algorithm, targets: bool = False) -> dict[str, Any]:
    """The networks of learner 0 under the references' names."""
    prefix = "target_" if targets else ""
    found: dict[str, Any] = {}
    actor = getattr(algorithm, f"{prefix}actor", None)
    if actor is not None:
        found["actor"] = layers(actor, (0,))
    critics = getattr(algorithm, f"{prefix}critics", None) or getattr(algorithm, f"{prefix}critic", None)
    if isinstance(critics, MLP):
        found["critic"] = layers(critics, (0,))
    elif critics is not None:
        count = critics.net.output.weight.shape[1]
        for index in range(count):
            found[f"critic_{index + 1}"] = layers(critics.net, (0, index))
            if hasattr(critics, "spread"):
                found[f"spread_{index + 1}"] = layers(critics.spread, (0, index))
    if hasattr(algorithm, "log_std") and not targets:
        found["log_std"] = [(algorithm.log_std[0, 0],)]
    return found


# The reference's module and options beside the product's fields that say the same.
CASES: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "dsac_t": [
        ("dsac", {}, {}),
        ("dsac", {"loss_form": "2025"}, {"critic_loss": "release_2025"}),
        ("dsac", {"expected_value_substitution": False}, {"expected_value_substitution": False}),
        ("dsac", {"twin_value_distributions": False}, {"twin_value_distributions": False}),
        ("dsac", {"variance_adjusted_gradients": False, "td_bound": 1.0},
         {"variance_based_gradients": False, "constant_bound": 1.0}),
        ("dsac", {"variance_adjusted_gradients": False, "loss_form": "2025"},
         {"variance_based_gradients": False, "critic_loss": "release_2025"}),
        ("dsac", {"epsilon": 1e-2, "epsilon_relative": True}, {"epsilon": 1e-2, "epsilon_relative": True}),
        ("dsac", {"epsilon": 1e-3, "epsilon_relative": True, "loss_form": "2025", "huber_delta": float("inf")},
         {"epsilon": 1e-3, "epsilon_relative": True, "critic_loss": "release_2025", "huber_delta": None}),
        ("dsac", {"fixed_temperature": 1.0}, {"learn_temperature": False, "initial_temperature": 1.0}),
        ("dsac", {}, {"layer_norm": True}),
    ],
    "dsac_v1": [("dsac", {"expected_value_substitution": False, "twin_value_distributions": False,
                          "variance_adjusted_gradients": False}, {})],
    "dsac_x": [
        ("dsac_x", {}, {}),
        ("dsac_x", {"expected_value_substitution": False}, {"expected_value_substitution": False}),
        ("dsac_x", {"twin_value_distributions": False}, {"twin_value_distributions": False}),
        ("dsac_x", {"variance_based_gradients": False}, {"variance_based_gradients": False}),
        ("dsac_x", {"weight_limit": 1.2, "weight_epsilon": 0.5, "xi": 0.5, "value_bound": 1.0, "rate": 0.2},
         {"weight_limit": 1.2, "weight_epsilon": 0.5, "bound_in_deviations": 0.5, "value_bound": 1.0,
          "average_rate": 0.2}),
        ("dsac_x", {"xi": None, "value_bound": None}, {"bound_in_deviations": None, "value_bound": None}),
        ("dsac_x", {"spread_gradient": 0.1, "risk": 0.7}, {"spread_gradient": 0.1, "risk": 0.7}),
    ],
    "sac": [("sac", {}, {}), ("sac", {"target_entropy": -1.5}, {"target_entropy_scale": 0.5})],
    "td3": [("td3", {}, {}), ("td3", {"delay_targets": True}, {"delay_targets": True})],
    "ddpg": [("ddpg", {}, {})],
    "ppo": [
        ("ppo", {"value_coefficient": 0.25, "max_gradient_norm": 0.5, "normalise_advantage": False}, {}),
        ("ppo", {"value_coefficient": 0.5, "max_gradient_norm": None, "clip_high": 0.3, "value_clip": 0.2,
                 "entropy_coefficient": 0.01, "kl_coefficient": 0.2},
         {"gradient_clip": None, "clip_high": 0.3, "value_clip": 0.2, "entropy_coefficient": 0.01, "kl_penalty": 0.2,
          "advantage_normalization": True, "value_coefficient": 0.5}),
    ],
}  # fmt: skip
IDS = [(name, index) for name in CASES for index in range(len(CASES[name]))]


@pytest.mark.parametrize(("name", "index"), IDS)
def test_updates_equal_the_reference(name: str, index: int):
    """Catches any wrong sign, target, detach, order or moment: against code written from the formulas alone."""
    module, options, changes = CASES[name][index]
    reference_module = importlib.import_module(f"reference.{module}")
    if name == "dsac_x":  # the reference sees what the networks see
        changes = {"observation_normalization": False, "return_normalization": False, **changes}
        changes["initial_temperature"] = 1.0  # whose logarithm float32 holds
    algorithm = make_algorithm(name, seeds=(3,), **changes).double()
    if name == "dsac_x":
        algorithm.set_progress(1.0)  # the risk has grown
    if module == "ppo":
        options = {"activation": "tanh", **options}
    reference = reference_module.Reference(networks_of(algorithm), reference_module.Options(**options))
    for step in range(10):
        batch, noise = make_batch(algorithm, step), make_noise(algorithm, step)
        policy_step = step % algorithm.delay == 0
        algorithm.update(batch, noise, policy_step)
        one = {key: value[0] for key, value in batch._asdict().items()}
        draws = {
            key: value[0].reshape(-1, value.shape[-1]) if key == "value" else value[0] for key, value in noise.items()
        }
        reference.update(one, draws, policy_step)
        if step + 1 in (1, 2, 10):
            compare(networks_of(algorithm), reference.parameters, f"parameters after {step + 1}")
            compare(
                networks_of(algorithm, targets=True), getattr(reference, "targets", {}), f"targets after {step + 1}"
            )
            if hasattr(algorithm, "log_alpha") and algorithm.config.learn_temperature:
                torch.testing.assert_close(algorithm.log_alpha[0], reference.log_alpha.detach(), rtol=0, atol=1e-9)
            if hasattr(algorithm, "sigma_average"):
                expected = torch.stack(reference.moving_sigma)
                torch.testing.assert_close(algorithm.sigma_average[0], expected, rtol=0, atol=1e-9)


def compare(found: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    """Equal to 1e-9, layer by layer."""
    assert found.keys() == expected.keys(), where
    for key, net in expected.items():
        for mine, theirs in zip(found[key], net, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-9, msg=f"{key}: {where}")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_stacked_learners_equal_separate_ones(name: str):
    """Catches a mean over learners, a shared moment or clip norm, and a seed that depends on the others."""
    together = make_algorithm(name, seeds=(0, 1, 2)).double()
    run_updates(together, 6)
    for learner in range(3):
        alone = make_algorithm(name, seeds=(learner,)).double()
        run_updates(alone, 6)
        for (key, mine), theirs in zip(together.state_dict().items(), alone.state_dict().values(), strict=True):
            if mine.ndim:  # a learning rate is common to all
                torch.testing.assert_close(
                    mine[learner], theirs[0], rtol=0, atol=1e-12, msg=f"learner {learner}: {key}"
                )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_golden_trace(name: str):
    """Catches a refactor that moves the numbers: 20 updates end where they ended before (python tests/golden.py)."""
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    assert trace(name) == pytest.approx(expected, rel=1e-8)


def trace(name: str) -> dict[str, float]:
    """The norm of every part of the state after 20 updates in float64, and of the metrics of the last."""
    algorithm = make_algorithm(name, seeds=(7,)).double()
    metrics: dict[str, torch.Tensor] = {}
    for values in run_updates(algorithm, 20):
        metrics |= values
    return {key: float(value.double().norm()) for key, value in (algorithm.state_dict() | metrics).items()}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_state_is_in_the_state_dict(name: str):
    """Catches state in plain attributes: an algorithm loaded from state_dict continues exactly as the saved one."""
    first, second = make_algorithm(name).double(), make_algorithm(name, seeds=(5,)).double()
    run_updates(first, 3)
    second.load_state_dict(first.state_dict())
    second.seeds = first.seeds
    run_updates(first, 3)
    run_updates(second, 3)
    for (key, mine), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), key


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("normalized", [False, True])
def test_policy_is_what_acts_without_noise(name: str, normalized: bool):
    """Catches a second forward pass that drifts: the policy equals `act` at zero noise, in the task's units."""
    algorithm = make_algorithm(name, seeds=(0, 1), spec=make_spec(limit=0.4), observation_normalization=normalized)
    if normalized:
        algorithm.observations.update(torch.randn(7, 2, 4, 5) * 3 + 1)
    obs = torch.randn(2, 6, 5)
    acted = algorithm.act(obs, torch.zeros(2, 6, 3)).clamp(-1, 1) * 0.4
    for learner in range(2):
        policy = algorithm.policy(learner)
        torch.testing.assert_close(policy(obs[learner]), acted[learner], rtol=0, atol=1e-6)
        assert policy(100 * obs[learner]).abs().max() <= 0.4


@pytest.mark.parametrize("name", ALGORITHMS)
def test_update_never_waits_for_the_device(name: str):
    """Catches .item(), float(tensor) or `if tensor` inside an update, each a stall on a GPU and a broken graph."""
    algorithm = make_algorithm(name)
    batch, noise = make_batch(algorithm, 0, torch.float32), make_noise(algorithm, 0, torch.float32)

    class NoSync(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func is not torch.ops.aten._local_scalar_dense.default, "update reads a value back to the host"
            assert func is not torch.ops.aten.nonzero.default, "update depends on the number of true entries"
            return func(*args, **(kwargs or {}))

    with NoSync():
        algorithm.update(batch, noise, True)
        algorithm.update(batch, noise, False)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_learns_a_trivial_task_in_seconds(name: str):
    """Catches an algorithm that runs and does not learn: the best action of -(a - 0.3)^2 is 0.3."""
    torch.manual_seed(0)
    settings = {
        "critic_learning_rate": 3e-3,
        "actor_learning_rate": 3e-3,
        "learning_rate": 3e-3,
        "initial_temperature": 0.01,
        "learn_temperature": False,
        "warmup_env_steps": 64,
        "batch_size": 32,
        "minibatch_size": 32,
        "updates_per_env_step": 0.25,
        "horizon": 16,
        "num_envs": 8,
        "exploration_noise": 0.2,
    }
    algorithm = make_algorithm(name, spec=make_spec(2, 1), **settings)
    env = Target(8)
    collector = Collector([env], [0], torch.device("cpu"))
    memory = algorithm.memory(8, torch.device("cpu"))
    budget = 2000
    Trainer(algorithm, make_updater(algorithm), collector, memory, [], budget).run()
    action = algorithm.policy(0)(torch.ones(1, 2)).item()
    assert abs(action - 0.3) < 0.1


def test_initialisation_of_each_slice_matches_linear():
    """Catches slices the initialiser never saw, a fan taken over the wrong dimension, and slices that are equal."""
    algorithm = make_algorithm("dsac_t", seeds=(0, 1), hidden_sizes=(256, 256))
    for layer, inputs in zip(algorithm.critics.net.hidden, (8, 256), strict=True):
        bound = inputs**-0.5
        weight = layer.weight.detach().flatten(0, 1)
        assert weight.abs().amax(dim=(1, 2)).max() <= bound
        np.testing.assert_allclose(weight.std(dim=(1, 2)), bound / 3**0.5, rtol=0.05)
        for first in range(4):
            for second in range(first):
                assert not torch.equal(weight[first], weight[second])
