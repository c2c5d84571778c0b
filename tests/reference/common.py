"""What the references share: plain networks, the tanh-normal policy, Adam and Polyak averaging, all float64 on the CPU.

A network is a list of layers. A layer is ``(W, b)`` with ``W`` (in, out) and ``b`` (out,), or, with LayerNorm after the
linear map, ``(W, b, scale, offset)`` with the last two (out,). Letters: B batch, O observation, A action.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Layer = tuple[Tensor, ...]
Network = list[Layer]
Networks = dict[str, Network]

LAYER_NORM_EPSILON = 1e-5
LOG_STD_LOW, LOG_STD_HIGH = -20.0, 0.5


def to_float64(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every array of a batch or of a noise dict as a float64 tensor on the CPU."""
    return {name: torch.as_tensor(value, dtype=torch.float64, device="cpu").detach() for name, value in values.items()}


def copy_network(network: Sequence[Sequence[Any]], trainable: bool) -> Network:
    """A float64 copy that shares no memory with its source; ``trainable`` makes the tensors leaves with gradients."""
    return [
        tuple(
            torch.as_tensor(tensor, dtype=torch.float64, device="cpu").detach().clone().requires_grad_(trainable)
            for tensor in layer
        )
        for layer in network
    ]


def copy_networks(networks: Mapping[str, Any], names: Sequence[str], trainable: bool) -> Networks:
    """Copies of the networks called ``names``; ValueError when others are given or one is missing."""
    if set(networks) != set(names):
        raise ValueError(f"networks {sorted(networks)} given, {sorted(names)} needed")
    return {name: copy_network(networks[name], trainable) for name in names}


def tensors_of(networks: Networks, names: Sequence[str]) -> list[Tensor]:
    """The tensors of the networks called ``names``, in the order of names, layers and places in the layer."""
    return [tensor for name in names for layer in networks[name] for tensor in layer]


def split_by_network(values: Sequence[Tensor], networks: Networks, names: Sequence[str]) -> dict[str, list[Tensor]]:
    """The flat list that ``tensors_of(networks, names)`` is parallel to, cut into one flat list per network."""
    remaining = iter(values)
    return {name: [next(remaining) for layer in networks[name] for _ in layer] for name in names}


def gelu(x: Tensor) -> Tensor:
    """The exact GELU, x Phi(x), through erf."""
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def relu(x: Tensor) -> Tensor:
    """max(x, 0), with derivative 0 at 0."""
    return torch.where(x > 0.0, x, torch.zeros_like(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "tanh": torch.tanh, "relu": relu}


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) at full precision; torch's own returns x above 20, an error of up to 2e-9."""
    return torch.logaddexp(x, torch.zeros_like(x))


def layer_norm(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Each row of x (B, H) to mean 0 and biased variance 1, then the elementwise affine map."""
    mean = x.mean(dim=1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + LAYER_NORM_EPSILON) * scale + offset


def mlp(network: Network, x: Tensor, activation: str) -> Tensor:
    """(B, in) to (B, out): hidden layers are linear, LayerNorm if they have one, activation; the last is linear."""
    *hidden_layers, output_layer = network
    for layer in hidden_layers:
        weight, bias, *normalisation = layer
        x = x @ weight + bias
        if normalisation:
            x = layer_norm(x, *normalisation)
        x = ACTIVATIONS[activation](x)
    weight, bias = output_layer
    return x @ weight + bias


def action_value(network: Network, obs: Tensor, action: Tensor, activation: str) -> Tensor:
    """Q(s, a) (B,) of a critic with a single output."""
    return mlp(network, torch.cat([obs, action], dim=1), activation)[:, 0]


def tanh_normal_sample(actor_output: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Action (B, A) in [-1, 1] and its log-probability (B,) from the actor's raw outputs (B, 2A) and draws e (B, A).

    Sum over actions of (-e^2/2 - log_std - log(2 pi)/2) - 2 (log 2 - u - softplus(-2u)),
    u = mean + std e, log_std the second half of the outputs clamped to [-20, 0.5].
    """
    action_dim = actor_output.shape[1] // 2
    mean = actor_output[:, :action_dim]
    log_std = actor_output[:, action_dim:].clamp(LOG_STD_LOW, LOG_STD_HIGH)
    u = mean + torch.exp(log_std) * noise
    normal_log_prob = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    log_derivative = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))
    return torch.tanh(u), (normal_log_prob - log_derivative).sum(dim=1)


class Adam:
    """Adam, algorithm 1 of Kingma and Ba (2015), no weight decay; epsilon is added to sqrt(v_hat).

    ``parameters`` are moved in place; ``count``, ``first_moments`` and ``second_moments`` are the whole state.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        learning_rate: float,
        epsilon: float = 1e-8,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.epsilon = epsilon
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.count = 0
        self.first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step down the gradients, which are parallel to the parameters."""
        self.count += 1
        for index, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            m = self.beta_1 * self.first_moments[index] + (1.0 - self.beta_1) * gradient
            v = self.beta_2 * self.second_moments[index] + (1.0 - self.beta_2) * gradient**2
            m_hat = m / (1.0 - self.beta_1**self.count)
            v_hat = v / (1.0 - self.beta_2**self.count)
            parameter.copy_(parameter - self.learning_rate * m_hat / (torch.sqrt(v_hat) + self.epsilon))
            self.first_moments[index] = m
            self.second_moments[index] = v


@torch.no_grad()
def polyak(targets: Networks, networks: Networks, tau: float) -> None:
    """target = (1 - tau) target + tau online, in place, for every network."""
    names = list(targets)
    for target, online in zip(tensors_of(targets, names), tensors_of(networks, names), strict=True):
        target.copy_((1.0 - tau) * target + tau * online)
