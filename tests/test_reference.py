"""The float64 references held against truths that do not come from them: torch, integrals and closed forms."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from reference import common, ddpg, dsac, ppo, sac, td3
from torch import Tensor

BATCH, OBS, ACTION = 7, 3, 2
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Standard normal float64 draws of a given shape, from one stream a test."""
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)


def make_network(normal: Callable[..., Tensor], sizes: list[int], with_layer_norm: bool = False) -> common.Network:
    """Layers of the given widths with random weights, biases and LayerNorm parameters."""
    network = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        layer = [normal(inputs, outputs) / math.sqrt(inputs), 0.1 * normal(outputs)]
        if with_layer_norm and index < len(sizes) - 2:
            layer += [1.0 + 0.3 * normal(outputs), 0.3 * normal(outputs)]
        network.append(tuple(layer))
    return network


def make_batch(normal: Callable[..., Tensor]) -> dict[str, Tensor]:
    """A replay batch whose third transition is terminated."""
    discount = torch.full((BATCH,), 0.9, dtype=torch.float64)
    discount[2] = 0.0
    return {
        "obs": normal(BATCH, OBS),
        "action": torch.tanh(normal(BATCH, ACTION)),
        "reward": normal(BATCH),
        "next_obs": normal(BATCH, OBS),
        "discount": discount,
    }


def make_learner(normal: Callable[..., Tensor], name: str, **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """A small learner of the named off-policy algorithm and one noise dict for it."""
    critic = [OBS + ACTION, 8, 8, 1]
    if name == "dsac":
        chosen = dsac.Options(**options)
        critics = ["critic_1", "critic_2"] if chosen.twin_value_distributions else ["critic_1"]
        networks = {"actor": make_network(normal, [OBS, 8, 8, 2 * ACTION])}
        networks |= {critic_name: make_network(normal, [*critic[:-1], 2]) for critic_name in critics}
        noise = {"policy": (BATCH, ACTION), "target": (BATCH, ACTION), "value": (len(critics), BATCH)}
        learner: Any = dsac.Reference(networks, chosen)
    elif name == "sac":
        networks = {"actor": make_network(normal, [OBS, 8, 8, 2 * ACTION])}
        networks |= {critic_name: make_network(normal, critic) for critic_name in ("critic_1", "critic_2")}
        noise = {"policy": (BATCH, ACTION), "next": (BATCH, ACTION)}
        learner = sac.Reference(networks, sac.Options(**options))
    elif name == "td3":
        networks = {"actor": make_network(normal, [OBS, 8, 8, ACTION])}
        networks |= {critic_name: make_network(normal, critic) for critic_name in ("critic_1", "critic_2")}
        noise = {"target": (BATCH, ACTION)}
        learner = td3.Reference(networks, td3.Options(**options))
    else:
        networks = {
            "actor": make_network(normal, [OBS, 8, 8, ACTION]),
            "critic_1": make_network(normal, critic),
        }
        noise = {}
        learner = ddpg.Reference(networks, ddpg.Options(**options))
    return learner, {key: normal(*shape) for key, shape in noise.items()}


def snapshot(networks: common.Networks) -> dict[str, list[Tensor]]:
    """Detached copies of every tensor, a flat list per network."""
    return {name: [t.detach().clone() for t in common.tensors_of(networks, [name])] for name in networks}


def moved(before: dict[str, list[Tensor]], networks: common.Networks) -> set[str]:
    """Names of the networks in which any tensor differs from the snapshot."""
    after = snapshot(networks)
    return {
        name
        for name, tensors in before.items()
        if not all(torch.equal(old, new) for old, new in zip(tensors, after[name], strict=True))
    }


# ---- common ----


@pytest.mark.parametrize("epsilon", [1e-8, 1e-5])
def test_adam_equals_torch(normal: Callable[..., Tensor], epsilon: float) -> None:
    """Catches epsilon inside the root, bias correction left out or off by one step, and moments mixed up."""
    ours = normal(4, 3)
    theirs = ours.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([theirs], lr=1e-2, eps=epsilon)
    adam = common.Adam([ours], 1e-2, epsilon=epsilon)
    for scale in [1e-7, 1.0, 1e-3, 10.0, 0.0]:
        gradient = scale * normal(4, 3)
        theirs.grad = gradient.clone()
        optimizer.step()
        adam.step([gradient])
        torch.testing.assert_close(ours, theirs.detach(), **CLOSE)
    assert adam.count == 5


@pytest.mark.parametrize("with_layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "tanh", "relu"])
def test_mlp_equals_torch_modules(normal: Callable[..., Tensor], activation: str, with_layer_norm: bool) -> None:
    """Catches the tanh approximation of GELU, LayerNorm after the activation or on the output, unbiased variance."""
    network = make_network(normal, [4, 6, 5, 2], with_layer_norm)
    modules: list[torch.nn.Module] = []
    for index, layer in enumerate(network):
        linear = torch.nn.Linear(*layer[0].shape, dtype=torch.float64)
        linear.weight.data, linear.bias.data = layer[0].T.clone(), layer[1].clone()
        modules.append(linear)
        if len(layer) == 4:
            normalisation = torch.nn.LayerNorm(layer[0].shape[1], dtype=torch.float64)
            normalisation.weight.data, normalisation.bias.data = layer[2].clone(), layer[3].clone()
            modules.append(normalisation)
        if index < len(network) - 1:
            modules.append({"gelu": torch.nn.GELU, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]())
    x = normal(BATCH, 4)
    torch.testing.assert_close(common.mlp(network, x, activation), torch.nn.Sequential(*modules)(x), **CLOSE)


def test_tanh_normal_log_prob_equals_torch(normal: Callable[..., Tensor]) -> None:
    """Catches a missing or doubled tanh Jacobian, a sum over the wrong axis, and swapped mean and log_std halves."""
    output = normal(BATCH, 2 * ACTION)
    output[:, ACTION:] -= 0.5
    mean, log_std = output[:, :ACTION], output[:, ACTION:].clamp(max=0.5)
    noise = normal(BATCH, ACTION)
    action, log_prob = common.tanh_normal_sample(output, noise)
    transform = torch.distributions.TanhTransform(cache_size=1)
    distribution = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), [transform]
    )
    sample = transform(mean + log_std.exp() * noise)
    torch.testing.assert_close(action, sample, **CLOSE)
    torch.testing.assert_close(log_prob, distribution.log_prob(sample).sum(dim=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("u", [-30.0, -10.0, 7.0, 10.0, 30.0])
def test_tanh_normal_log_prob_far_from_zero(u: float) -> None:
    """Catches log(1 - tanh^2 + 1e-6), 4.8 nats too high at u = 10: here log(1 - tanh^2 u) = -2 log cosh u."""
    output = torch.tensor([[u, 0.0]], dtype=torch.float64)
    _, log_prob = common.tanh_normal_sample(output, torch.zeros(1, 1, dtype=torch.float64))
    log_cosh = abs(u) + math.log1p(math.exp(-2.0 * abs(u))) - math.log(2.0)
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2.0 * math.pi) + 2.0 * log_cosh, rel=1e-13)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (1.5, -0.7), (-0.4, 0.0)])
def test_tanh_normal_density_integrates_to_one(mean: float, log_std: float) -> None:
    """Catches any wrong constant or sign in the log-prob, such as a Jacobian added instead of subtracted."""
    action = torch.linspace(-1.0, 1.0, 400_001, dtype=torch.float64)[1:-1]
    noise = (torch.atanh(action) - mean) / math.exp(log_std)
    output = torch.tensor([[mean, log_std]], dtype=torch.float64).expand(len(action), 2)
    sampled, log_prob = common.tanh_normal_sample(output, noise[:, None])
    torch.testing.assert_close(sampled[:, 0], action, rtol=0, atol=1e-9)
    assert torch.trapezoid(log_prob.exp(), action).item() == pytest.approx(1.0, abs=1e-6)


def test_log_std_is_clamped() -> None:
    """Catches a missing clamp or other limits than [-20, 0.5]: with noise 1 the pre-tanh action is the std."""
    output = torch.tensor([[0.0, 3.0], [0.0, -40.0]], dtype=torch.float64)
    action, _ = common.tanh_normal_sample(output, torch.ones(2, 1, dtype=torch.float64))
    torch.testing.assert_close(action[:, 0], torch.tensor([0.5, -20.0], dtype=torch.float64).exp().tanh(), **CLOSE)


# ---- dsac ----


def test_paper_gradients_are_those_of_the_gaussian_likelihood(normal: Callable[..., Tensor]) -> None:
    """Catches a wrong sign or power of sigma: without epsilon, bound and weight they are the Gaussian NLL's."""
    q, y = normal(BATCH).requires_grad_(True), normal(BATCH)
    sigma = (0.3 + normal(BATCH) ** 2).requires_grad_(True)
    negative_log_likelihood = -torch.distributions.Normal(q, sigma).log_prob(y).sum()
    expected = torch.autograd.grad(negative_log_likelihood, [q, sigma])
    actual = dsac.paper_gradients(q, sigma, y_mean=y, y_bounded=y, weight=1.0, epsilon=0.0)
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_paper_gradients_vanish_at_their_fixed_point_only() -> None:
    """Catches epsilon that moves the fixed point, Q = y_q and sigma^2 = E[(Q - y_z)^2], and swapped targets."""
    y_bounded = torch.tensor([-1.5, 0.5, 2.5, 0.5], dtype=torch.float64)  # mean 0.5, variance 2
    q = torch.full((4,), 0.5, dtype=torch.float64)
    sigma = torch.full((4,), math.sqrt(2.0), dtype=torch.float64)
    terms = {"y_mean": q, "y_bounded": y_bounded, "weight": 2.1, "epsilon": 0.1}
    q_gradient, sigma_gradient = dsac.paper_gradients(q, sigma, **terms)
    assert q_gradient.abs().max().item() == 0.0
    assert sigma_gradient.mean().item() == pytest.approx(0.0, abs=1e-14)
    assert dsac.paper_gradients(q + 0.1, sigma, **terms)[0].mean().item() > 0.0
    assert dsac.paper_gradients(q, sigma + 0.1, **terms)[1].mean().item() > 0.0
    assert dsac.paper_gradients(q, sigma - 0.1, **terms)[1].mean().item() < 0.0


def test_huber_equals_torch(normal: Callable[..., Tensor]) -> None:
    """Catches a Huber loss divided by delta, and an infinite delta whose gradient is not a number."""
    difference = (60.0 * normal(50)).requires_grad_(True)
    expected = torch.nn.functional.huber_loss(difference, torch.zeros(50).double(), reduction="none", delta=50.0)
    torch.testing.assert_close(dsac.huber(difference, 50.0), expected, **CLOSE)
    (gradient,) = torch.autograd.grad(dsac.huber(difference, math.inf).sum(), [difference])
    torch.testing.assert_close(gradient, difference.detach(), **CLOSE)


def test_smaller_mean_ties_go_to_critic_two() -> None:
    """Catches a choice by the smaller draw instead of the smaller mean, and ties given to critic 1."""
    means = [torch.tensor([0.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 1.0])]
    draws = [torch.tensor([10.0, 11.0, 12.0]), torch.tensor([20.0, 21.0, 22.0])]
    assert dsac.smaller_mean(means, draws).tolist() == [10.0, 21.0, 22.0]


def test_moving_average_starts_at_the_batch_mean_and_is_taken_before_use(normal: Callable[..., Tensor]) -> None:
    """Catches an average that starts at zero, and one that is used a step late: the first bound would be 0."""
    learner, noise = make_learner(normal, "dsac", xi=0.0)
    batch = make_batch(normal)
    _, sigma = dsac.value_distribution(learner.parameters["critic_2"], batch["obs"], batch["action"], "gelu")
    learner.update(batch, noise, policy_step=False)
    first = sigma.detach().mean()
    torch.testing.assert_close(learner.moving_sigma[1], first, **CLOSE)
    _, sigma = dsac.value_distribution(learner.parameters["critic_2"], batch["obs"], batch["action"], "gelu")
    learner.update(batch, noise, policy_step=False)
    torch.testing.assert_close(learner.moving_sigma[1], 0.995 * first + 0.005 * sigma.detach().mean(), **CLOSE)


def test_bound_clips_only_the_sigma_target(normal: Callable[..., Tensor]) -> None:
    """Catches a bound applied to the mean's target: in v1 the last bias of the mean sees the unclipped error."""
    switches = dict.fromkeys(
        ["expected_value_substitution", "twin_value_distributions", "variance_adjusted_gradients"], False
    )
    learner, noise = make_learner(normal, "dsac", td_bound=1e-9, **switches)
    batch = make_batch(normal)
    _, y_z = learner.target_values(batch, noise)
    q, sigma = dsac.value_distribution(learner.parameters["critic_1"], batch["obs"], batch["action"], "gelu")
    learner.update(batch, noise, policy_step=False)
    last_bias = learner.gradients["critic_1"][-1]
    expected_q = ((q - y_z) / (sigma**2 + 0.1)).mean()
    raw_slope = 1.0 - torch.exp(-sigma)  # derivative of softplus, written in its value
    expected_raw = (sigma**2 / (sigma**3 + 0.1) * raw_slope).mean()
    torch.testing.assert_close(last_bias, torch.stack([expected_q, expected_raw]).detach(), rtol=1e-10, atol=1e-10)


def test_value_noise_is_clamped(normal: Callable[..., Tensor]) -> None:
    """Catches a missing clamp of z to 3, and a clamp that reaches the policy's noise."""
    learner, noise = make_learner(normal, "dsac")
    batch = make_batch(normal)
    at_bound = noise | {"value": torch.full((2, BATCH), 3.0)}
    beyond = noise | {"value": torch.full((2, BATCH), 30.0)}
    torch.testing.assert_close(learner.target_values(batch, at_bound), learner.target_values(batch, beyond), **CLOSE)


@pytest.mark.parametrize(("loss_form", "deviation"), [("paper", 2.252), ("2025", 0.862)])
def test_self_loop_reaches_the_closed_form(normal: Callable[..., Tensor], loss_form: str, deviation: float) -> None:
    """Catches errors that only the whole chain shows: targets, draws, bound, loss, Adam and Polyak (gamma 0.9).

    One state that leads to itself with reward N(1, 1), temperature 0: the mean is 10; the standard deviations solve
    the fixed point with z clamped to 3 and the error to 3 sigma (2.294 without either). The draws are fixed,
    standardised and uncorrelated, so that the loss is deterministic.
    """
    size = 2048
    draws, _ = torch.linalg.qr(torch.stack([torch.ones(size).double(), normal(size), normal(size)], dim=1))
    reward, z = (math.sqrt(size) * draws[:, 1:]).unbind(dim=1)
    parameters = {
        "actor": [(torch.zeros(1, 2), torch.tensor([0.0, -5.0]))],
        "critic_1": [(torch.zeros(2, 2), torch.tensor([9.5, 1.0]))],
        "critic_2": [(torch.zeros(2, 2), torch.tensor([9.8, 0.5]))],
    }
    learner = dsac.Reference(
        parameters, dsac.Options(loss_form=loss_form, fixed_temperature=0.0, tau=0.1, tau_b=0.1, actor_learning_rate=0)
    )
    zero = torch.zeros(size, 1, dtype=torch.float64)
    discount = torch.full((size,), 0.9, dtype=torch.float64)
    batch = {"obs": zero, "action": zero, "reward": 1.0 + reward, "next_obs": zero, "discount": discount}
    noise = {"policy": zero, "target": zero, "value": z.expand(2, size)}
    steps = 600
    for step in range(steps):
        learner.optimizers["critic"].learning_rate = 0.05 * (1.0 - step / steps)
        learner.update(batch, noise, policy_step=True)
    for name in learner.critic_names:
        q, sigma = dsac.value_distribution(learner.parameters[name], zero[:1], zero[:1], "gelu")
        assert q.item() == pytest.approx(10.0, rel=2e-3)
        assert sigma.item() == pytest.approx(deviation, rel=1.5e-2)


@pytest.mark.parametrize("reward", [2.0, 80.0])
@pytest.mark.parametrize("m", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("adjusted", [True, False])
@pytest.mark.parametrize("loss_form", ["paper", "2025"])
def test_critic_gradient_by_hand(loss_form: str, adjusted: bool, relative: bool, m: float, reward: float) -> None:
    """Catches a weight, clamp, division, epsilon or Huber branch that differs from steps 4 and 5, in plain numbers."""
    q, sigma = 0.5, 0.7
    epsilon_1, epsilon_2, epsilon_3 = (0.1 * m, 0.1 * m**2, 0.1 * m**3) if relative else (0.1, 0.1, 0.1)
    raw = math.log(math.expm1(sigma))
    parameters = {"actor": [(torch.zeros(1, 2), torch.zeros(2))], "critic_1": [(torch.zeros(2, 2), [q, raw])]}
    options = dsac.Options(
        loss_form=loss_form,
        twin_value_distributions=False,
        variance_adjusted_gradients=adjusted,
        td_bound=60.0,
        tau_b=0.0,
        epsilon_relative=relative,
    )
    learner = dsac.Reference(parameters, options)
    learner.moving_sigma, learner.iteration = [torch.tensor(m, dtype=torch.float64)], 1
    zero = [[0.0]]
    batch = {"obs": zero, "action": zero, "reward": [reward], "next_obs": zero, "discount": [0.0]}
    learner.update(batch, {"policy": zero, "target": zero, "value": zero}, policy_step=False)

    error = q - reward
    bounded_error = max(error, -3.0 * m if adjusted else -60.0)
    if loss_form == "paper":
        weight = m**2 + epsilon_2 if adjusted else 1.0
        q_gradient = weight * error / (sigma**2 + epsilon_2)
        sigma_gradient = weight * (sigma**2 - bounded_error**2) / (sigma**3 + epsilon_3)
    else:
        inverse = 1.0 / (sigma**2 + epsilon_2)
        weight = min(max(m**2 * inverse, 0.1), 10.0) if adjusted else inverse
        distance = abs(bounded_error)
        loss = 0.5 * distance**2 if distance < 50.0 else 50.0 * (distance - 25.0)
        q_gradient = weight * max(error, -50.0)
        sigma_gradient = weight * (sigma**2 - loss) / (sigma + epsilon_1)
    q_bias, raw_bias = learner.gradients["critic_1"][-1].tolist()
    assert q_bias == pytest.approx(q_gradient, rel=1e-12)
    assert raw_bias == pytest.approx(sigma_gradient / (1.0 + math.exp(-raw)), rel=1e-12)


# ---- targets ----


def test_polyak_takes_a_small_part_of_the_online_network() -> None:
    """Catches tau and 1 - tau exchanged."""
    targets, online = ({"critic": [(torch.tensor([value]),)]} for value in (1.0, 3.0))
    common.polyak(targets, online, 0.25)
    assert targets["critic"][0][0].item() == 1.5


@pytest.mark.parametrize("name", ["dsac", "sac", "td3", "ddpg"])
def test_targets_follow_the_moved_networks(normal: Callable[..., Tensor], name: str) -> None:
    """Catches targets that average the networks from before the step, and another tau than 0.005."""
    learner, noise = make_learner(normal, name, critic_learning_rate=0.1)
    before = snapshot(learner.targets)
    learner.update(make_batch(normal), noise, policy_step=True)
    after, online = snapshot(learner.targets), snapshot(learner.parameters)
    for network in before:
        for old, new, source in zip(before[network], after[network], online[network], strict=True):
            torch.testing.assert_close(new, 0.995 * old + 0.005 * source, **CLOSE)


@pytest.mark.parametrize("name", ["dsac", "sac", "td3", "ddpg"])
def test_targets_depend_on_what_they_should(normal: Callable[..., Tensor], name: str) -> None:
    """Catches targets from online networks or from the present observation; SAC's a' alone is the online policy's."""
    learner, noise = make_learner(normal, name)
    batch = make_batch(normal)

    def target() -> Tensor:
        values = learner.target_values(batch, noise) if noise else learner.target_values(batch)
        return torch.stack(values) if isinstance(values, tuple) else values

    def changes(tensors: list[Tensor]) -> bool:
        before = target()
        with torch.no_grad():
            for tensor in tensors:
                tensor.add_(0.1)
        return not torch.equal(before, target())

    critics = [critic for critic in learner.parameters if critic != "actor"]
    assert not changes(common.tensors_of(learner.parameters, critics))
    assert not changes([batch["obs"], batch["action"]])
    assert changes([batch["next_obs"]])
    assert changes(common.tensors_of(learner.targets, critics))
    assert changes(common.tensors_of(learner.parameters, ["actor"])) == (name == "sac")
    assert name == "sac" or changes(common.tensors_of(learner.targets, ["actor"]))


def test_targets_by_hand() -> None:
    """Catches the larger critic, a lost or added entropy term, and an unclipped action, worked out in plain numbers."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    batch = common.to_float64({"obs": zero, "action": zero, "reward": [0.3], "next_obs": zero, "discount": [0.9]})
    actor = [(torch.zeros(1, 2), [0.25, -1.0])]
    u = 0.25 + 2.0 * math.exp(-1.0)
    log_prob = -0.5 * 2.0**2 + 1.0 - 0.5 * math.log(2.0 * math.pi) - math.log(1.0 - math.tanh(u) ** 2)
    raw = math.log(math.expm1(0.5))
    parameters = {
        "actor": actor,
        "critic_1": [(torch.zeros(2, 2), [2.0, raw])],
        "critic_2": [(torch.zeros(2, 2), [1.0, raw])],
    }
    noise = common.to_float64({"target": [[2.0]], "next": [[2.0]], "value": [[-2.5], [1.5]]})
    y_q, y_z = dsac.Reference(parameters, dsac.Options()).target_values(batch, noise)
    assert y_q.item() == pytest.approx(0.3 + 0.9 * (1.0 - math.e * log_prob), rel=1e-12)
    assert y_z.item() == pytest.approx(0.3 + 0.9 * (1.0 + 0.5 * 1.5 - math.e * log_prob), rel=1e-12)

    parameters = {"actor": actor, "critic_1": [(torch.zeros(2, 1), [2.0])], "critic_2": [(torch.zeros(2, 1), [1.0])]}
    y = sac.Reference(parameters, sac.Options()).target_values(batch, noise)
    assert y.item() == pytest.approx(0.3 + 0.9 * (1.0 - math.e * log_prob), rel=1e-12)

    of_action = torch.tensor([[0.0], [1.0]])
    parameters = {
        "actor": [(torch.zeros(1, 1), [math.atanh(0.75)])],
        "critic_1": [(of_action, [2.0])],
        "critic_2": [(of_action, [1.0])],
    }
    learner = td3.Reference(parameters, td3.Options())
    for draw, action in [(2.0, 1.0), (-1.0, 0.55), (-20.0, 0.25)]:
        y = learner.target_values(batch, {"target": torch.full((1, 1), draw).double()})
        assert y.item() == pytest.approx(0.3 + 0.9 * (1.0 + action), rel=1e-12)


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg"])
def test_mean_squared_error_gradient(normal: Callable[..., Tensor], name: str) -> None:
    """Catches half the squared error, a (B, B) broadcast, and a gradient that enters the target."""
    learner, noise = make_learner(normal, name)
    batch = make_batch(normal)
    y = learner.target_values(batch, noise) if noise else learner.target_values(batch)
    critics = [critic for critic in learner.parameters if critic != "actor"]
    expected = {}
    for critic in critics:
        q = common.action_value(learner.parameters[critic], batch["obs"], batch["action"], "gelu")
        loss = torch.nn.functional.mse_loss(q, y)
        expected[critic] = torch.autograd.grad(loss, common.tensors_of(learner.parameters, [critic]))
    learner.update(batch, noise, policy_step=True)
    for critic in critics:
        for ours, theirs in zip(learner.gradients[critic], expected[critic], strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


# ---- what moves, and when ----


@pytest.mark.parametrize("name", ["dsac", "sac"])
def test_other_steps_move_the_critics_alone(normal: Callable[..., Tensor], name: str) -> None:
    """Catches targets, temperature or the actor's Adam that move without a policy step."""
    learner, noise = make_learner(normal, name)
    networks, targets = snapshot(learner.parameters), snapshot(learner.targets)
    learner.update(make_batch(normal), noise, policy_step=False)
    assert moved(networks, learner.parameters) == {"critic_1", "critic_2"}
    assert moved(targets, learner.targets) == set()
    assert learner.log_alpha.item() == 1.0
    assert {key: adam.count for key, adam in learner.optimizers.items()} == {"critic": 1, "actor": 0, "temperature": 0}
    learner.update(make_batch(normal), noise, policy_step=True)
    assert moved(networks, learner.parameters) == {"actor", "critic_1", "critic_2"}
    assert moved(targets, learner.targets) == set(targets)
    assert {key: adam.count for key, adam in learner.optimizers.items()} == {"critic": 2, "actor": 1, "temperature": 1}
    assert learner.log_alpha.item() != 1.0


@pytest.mark.parametrize("delay_targets", [False, True])
def test_td3_targets(normal: Callable[..., Tensor], delay_targets: bool) -> None:
    """Catches targets, the policy's included, that follow the actor's delay when they should not, or the reverse."""
    learner, noise = make_learner(normal, "td3", delay_targets=delay_targets)
    learner.update(make_batch(normal), noise, policy_step=True)
    networks, targets = snapshot(learner.parameters), snapshot(learner.targets)
    learner.update(make_batch(normal), noise, policy_step=False)
    assert moved(networks, learner.parameters) == {"critic_1", "critic_2"}
    assert moved(targets, learner.targets) == (set() if delay_targets else {"actor", "critic_1", "critic_2"})


def test_td3_target_noise_is_clipped(normal: Callable[..., Tensor]) -> None:
    """Catches a missing clip of the target noise: 0.2 times 2.5 already reaches the limit of 0.5."""
    learner, _ = make_learner(normal, "td3")
    batch = make_batch(normal)
    at_limit, beyond = ({"target": torch.full((BATCH, ACTION), size).double()} for size in (2.5, 25.0))
    torch.testing.assert_close(learner.target_values(batch, at_limit), learner.target_values(batch, beyond), **CLOSE)


@pytest.mark.parametrize("name", ["dsac", "sac", "td3", "ddpg"])
def test_actor_gradient_uses_the_critics_from_before_the_step(normal: Callable[..., Tensor], name: str) -> None:
    """Catches an actor that sees critics already moved: their learning rate must not change its gradient."""
    gradients = []
    for learning_rate in (0.0, 0.1):
        generator = torch.Generator().manual_seed(11)

        def draw(*shape: int, stream: torch.Generator = generator) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=stream)

        learner, noise = make_learner(draw, name, critic_learning_rate=learning_rate)
        learner.update(make_batch(draw), noise, policy_step=True)
        gradients.append(learner.gradients["actor"])
    assert all(torch.equal(old, new) for old, new in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["dsac", "sac", "td3", "ddpg"])
def test_actor_gradient_equals_finite_differences(normal: Callable[..., Tensor], name: str) -> None:
    """Catches a path cut by a detach, such as a log-prob that the actor cannot lower, and a sign error."""
    learner, noise = make_learner(normal, name)
    batch = make_batch(normal)

    def loss() -> float:
        output = common.mlp(learner.parameters["actor"], batch["obs"], "gelu")
        if name in ("td3", "ddpg"):
            critic = learner.parameters["critic_1"]
            return -common.action_value(critic, batch["obs"], torch.tanh(output), "gelu").mean().item()
        action, log_prob = common.tanh_normal_sample(output, noise["policy"])
        inputs = torch.cat([batch["obs"], action], dim=1)
        values = [common.mlp(learner.parameters[critic], inputs, "gelu")[:, 0] for critic in ("critic_1", "critic_2")]
        return (math.e * log_prob - torch.stack(values).amin(dim=0)).mean().item()

    weight = learner.parameters["actor"][1][0]
    step, expected = 1e-6, torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for column in range(3):
            sides = []
            for sign in (1.0, -1.0):
                weight[0, column] += sign * step
                sides.append(loss())
                weight[0, column] -= sign * step
            expected[column] = (sides[0] - sides[1]) / (2.0 * step)
    learner.update(batch, noise, policy_step=True)
    torch.testing.assert_close(learner.gradients["actor"][2][0, :3], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["dsac", "sac", "td3", "ddpg"])
def test_terminated_transitions_do_not_bootstrap(normal: Callable[..., Tensor], name: str) -> None:
    """Catches a discount applied twice or to the reward: at discount 0 the target is the reward."""
    learner, noise = make_learner(normal, name)
    batch = make_batch(normal)
    values = learner.target_values(batch, noise) if noise else learner.target_values(batch)
    for target in values if isinstance(values, tuple) else (values,):
        assert target[2].item() == batch["reward"][2].item()
        assert target[0].item() != batch["reward"][0].item()


def test_temperature_rises_when_entropy_is_short(normal: Callable[..., Tensor]) -> None:
    """Catches a flipped sign in the temperature loss, whose gradient is -(mean log-prob + target entropy)."""
    for target_entropy, sign in [(50.0, 1.0), (-50.0, -1.0)]:
        learner, noise = make_learner(normal, "sac", target_entropy=target_entropy)
        learner.update(make_batch(normal), noise, policy_step=True)
        assert learner.log_alpha.item() - 1.0 == pytest.approx(sign * 3e-4, rel=1e-6)


@pytest.mark.parametrize("name", ["dsac", "sac"])
def test_target_entropy_is_minus_the_action_dimension(normal: Callable[..., Tensor], name: str) -> None:
    """Catches +A for -A, and a temperature that uses another log-prob than the one drawn before the actor's step."""
    learner, noise = make_learner(normal, name)
    batch = make_batch(normal)
    _, log_prob = common.tanh_normal_sample(
        common.mlp(learner.parameters["actor"], batch["obs"], "gelu"), noise["policy"]
    )
    learner.update(batch, noise, policy_step=True)
    assert learner.gradients["log_alpha"][0].item() == pytest.approx(ACTION - log_prob.mean().item(), rel=1e-12)


@pytest.mark.parametrize("name", ["dsac", "sac"])
def test_fixed_temperature_stands_still(normal: Callable[..., Tensor], name: str) -> None:
    """Catches a temperature that is learned although it was fixed; 0 must be allowed."""
    learner, noise = make_learner(normal, name, fixed_temperature=0.0)
    learner.update(make_batch(normal), noise, policy_step=True)
    assert learner.alpha.item() == 0.0
    assert learner.optimizers["temperature"].count == 0


# ---- ppo ----


def make_ppo(normal: Callable[..., Tensor], **options: Any) -> tuple[ppo.Reference, dict[str, Tensor]]:
    """A small PPO learner and a minibatch that it sampled itself, so that the first ratio is 1."""
    parameters = {
        "actor": make_network(normal, [OBS, 8, 8, ACTION]),
        "critic": make_network(normal, [OBS, 8, 8, 1]),
        "log_std": [(torch.full((ACTION,), -0.5),)],
    }
    learner = ppo.Reference(parameters, ppo.Options(**options))
    obs = normal(BATCH, OBS)
    mean = common.mlp(learner.parameters["actor"], obs, "tanh").detach()
    action = mean + math.exp(-0.5) * normal(BATCH, ACTION)
    distribution = torch.distributions.Normal(mean, math.exp(-0.5))
    value = common.mlp(learner.parameters["critic"], obs, "tanh")[:, 0].detach()
    return learner, {
        "obs": obs,
        "action": action,
        "log_prob": distribution.log_prob(action).sum(dim=1),
        "advantage": normal(BATCH),
        "value": value,
        "return_": value + normal(BATCH),
    }


def test_ppo_first_gradient_is_the_policy_gradient(normal: Callable[..., Tensor]) -> None:
    """Catches a wrong sign, ratio or normalisation: at ratio 1 the surrogate's gradient is -mean(A grad log pi)."""
    learner, batch = make_ppo(normal, kl_coefficient=0.2)
    advantage = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std() + 1e-8)
    mean = common.mlp(learner.parameters["actor"], batch["obs"], "tanh")
    ((log_std,),) = learner.parameters["log_std"]
    log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(batch["action"]).sum(dim=1)
    tensors = common.tensors_of(learner.parameters, ["actor", "log_std"])
    expected = torch.autograd.grad(-(advantage * log_prob).mean(), tensors)
    learner.update(batch, {}, policy_step=True)
    actual = learner.gradients["actor"] + learner.gradients["log_std"]
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_ppo_coefficients(normal: Callable[..., Tensor]) -> None:
    """Catches an entropy bonus or a KL penalty of the wrong sign, and a value loss without its half."""

    def gradients(**options: Any) -> dict[str, list[Tensor]]:
        generator = torch.Generator().manual_seed(5)
        learner, batch = make_ppo(
            lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator),
            clip_low=math.inf,
            clip_high=math.inf,
            normalise_advantage=False,
            **options,
        )
        old_log_prob = batch["log_prob"] + torch.linspace(-0.4, 0.4, BATCH, dtype=torch.float64)
        learner.update(batch | {"log_prob": old_log_prob} | changed, {}, policy_step=True)
        return learner.gradients

    changed: dict[str, Tensor] = {}
    plain, bonus = gradients(), gradients(entropy_coefficient=0.1)
    torch.testing.assert_close(bonus["log_std"][0], plain["log_std"][0] - 0.1, **CLOSE)
    torch.testing.assert_close(bonus["actor"], plain["actor"], **CLOSE)

    penalised = gradients(kl_coefficient=0.3)
    ratio = torch.exp(torch.linspace(0.4, -0.4, BATCH, dtype=torch.float64))
    changed = {"advantage": -(ratio - 1.0) / ratio}  # the surrogate's gradient is -A ratio, that of the KL ratio - 1
    only_kl = gradients()
    changed = {}
    for with_kl, without, kl in zip(penalised["actor"], plain["actor"], only_kl["actor"], strict=True):
        torch.testing.assert_close(with_kl - without, 0.3 * kl, rtol=1e-9, atol=1e-11)

    tripled = gradients(value_coefficient=3.0)
    torch.testing.assert_close(tripled["critic"], [3.0 * gradient for gradient in plain["critic"]], **CLOSE)
    torch.testing.assert_close(tripled["actor"], plain["actor"], **CLOSE)


def test_ppo_update_uses_its_controls(normal: Callable[..., Tensor]) -> None:
    """Catches clip limits swapped on the way to the loss, value and return swapped, and a norm clip left out."""
    learner, batch = make_ppo(normal, clip_low=0.1, clip_high=0.3, normalise_advantage=False)
    one = torch.ones(BATCH, dtype=torch.float64)
    shifted = {"log_prob": batch["log_prob"] - math.log(1.2), "return_": batch["value"] + 1.0}  # every ratio is 1.2
    learner.update(batch | shifted | {"advantage": one}, {}, policy_step=True)
    assert learner.gradients["actor"][0].abs().max().item() > 0.0
    assert learner.gradients["critic"][-1].item() == pytest.approx(-1.0, rel=1e-12)

    learner, batch = make_ppo(normal, max_gradient_norm=1e-3)
    learner.update(batch, {}, policy_step=True)
    squares = [(gradient**2).sum() for gradients in learner.gradients.values() for gradient in gradients]
    assert math.sqrt(sum(squares)) == pytest.approx(1e-3, rel=2e-2)


def test_ppo_surrogate_clips_on_the_profitable_side_only() -> None:
    """Catches max for min, and the asymmetric limits swapped."""
    cases = [(1.5, 1.0, -1.3), (1.5, -1.0, 1.5), (0.5, 1.0, -0.5), (0.5, -1.0, 0.9), (1.2, 1.0, -1.2)]
    for ratio, advantage, expected in cases:
        one = torch.ones(1, dtype=torch.float64)
        loss = ppo.surrogate_loss(ratio * one, advantage * one, clip_low=0.1, clip_high=0.3)
        assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_ppo_value_clip_takes_the_larger_error() -> None:
    """Catches min for max, and a clip around the return instead of the old value."""
    value, old_value, return_ = (torch.tensor([x], dtype=torch.float64) for x in (3.0, 0.0, 4.0))
    assert ppo.value_loss(value, old_value, return_, None).item() == 0.5
    assert ppo.value_loss(value, old_value, return_, 1.0).item() == 4.5
    assert ppo.value_loss(value, old_value, -return_, 1.0).item() == 24.5


def test_ppo_distribution_equals_torch(normal: Callable[..., Tensor]) -> None:
    """Catches constants missing from the Gaussian's log-prob and entropy, and a sum turned mean."""
    action, mean, log_std = normal(BATCH, ACTION), normal(BATCH, ACTION), normal(ACTION)
    distribution = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(
        ppo.normal_log_prob(action, mean, log_std), distribution.log_prob(action).sum(dim=1), **CLOSE
    )
    torch.testing.assert_close(ppo.normal_entropy(log_std), distribution.entropy().sum(dim=1)[0], **CLOSE)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_ppo_gradient_clip_equals_torch(normal: Callable[..., Tensor], max_norm: float) -> None:
    """Catches a norm per tensor, and gradients that are scaled up when they are small."""
    gradients = [normal(3, 4), normal(4)]
    leaves = [torch.zeros_like(gradient).requires_grad_(True) for gradient in gradients]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        leaf.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    for ours, leaf in zip(ppo.clipped_by_norm(gradients, max_norm), leaves, strict=True):
        torch.testing.assert_close(ours, leaf.grad, **CLOSE)


def test_ppo_kl_stop_latches_and_keeps_everything(normal: Callable[..., Tensor]) -> None:
    """Catches Adam that goes on under zero gradients, and a stop that releases within the block."""
    learner, batch = make_ppo(normal, target_kl=1e-3)
    learner.update(batch, {}, policy_step=True)
    assert learner.optimizers["all"].count == 1
    networks = snapshot(learner.parameters)
    moments = [moment.clone() for moment in learner.optimizers["all"].first_moments]
    drifted = batch | {"log_prob": batch["log_prob"] - 0.5}
    learner.update(drifted, {}, policy_step=True)
    learner.update(batch, {}, policy_step=True)
    assert learner.stopped
    assert moved(networks, learner.parameters) == set()
    assert learner.optimizers["all"].count == 1
    assert all(torch.equal(*pair) for pair in zip(moments, learner.optimizers["all"].first_moments, strict=True))
    learner.start_block()
    learner.update(batch, {}, policy_step=True)
    assert learner.optimizers["all"].count == 2
