"""Reference of DSAC-X, one learner. The steps of an update, whose numbers the docstrings cite; sg is "detached":

1. a', logp' from the policy at s'; j is the target critic with the smaller mean mu'_j(s', a'), ties go to critic 1.
   y = clip(r + discount (mu'_j - alpha logp'), -b, b); delta_i = y - sg mu_i; t_i = delta_i^2 + discount^2 sigma'_j^2.
   Without expected value substitution y = clip(r + discount (mu'_j + sigma'_j z - alpha logp')), t_i = delta_i^2.
2. m_i: moving average of the batch mean of s_i^2, d_i: of delta_i^2, both with this batch, which sets them at k = 0.
3. w = clamp((m + e m) / (sg s^2 + e m), 1/l, l), divided by its batch mean; kappa = xi sqrt(d); the mean's loss is
   w Huber(delta, kappa), mean over the batch, sum over critics.
4. dL/dlog s = 1 - min(delta^2 / s^2, 25), dL/dlog sigma = 1 - min(t / sigma^2, 25): heads on the mean's features,
   of whose gradient the share f reaches the features.
5. Actor: mean(alpha logp_pi - min_i mu_i(s, a_pi) + k sigma_tot), sigma_tot^2 = mean sigma_i^2 + var mu_i.
6. Temperature: -log_alpha mean(logp_pi + target entropy). Targets follow on policy steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .common import (
    ACTIVATIONS,
    Adam,
    Network,
    copy_networks,
    mlp,
    polyak,
    split_by_network,
    tanh_normal_sample,
    tensors_of,
    to_float64,
)


@dataclass(frozen=True)
class Options:
    """Hyper-parameters; None as bound is no bound. ``target_entropy`` None is -A / 2."""

    expected_value_substitution: bool = True
    twin_value_distributions: bool = True
    variance_based_gradients: bool = True
    weight_limit: float = 3.0
    weight_epsilon: float = 0.1
    xi: float | None = 3.0
    rate: float = 0.005
    value_bound: float | None = 6.0
    spread_gradient: float = 0.0
    risk: float = 0.0
    tau: float = 0.02
    learning_rate: float = 3e-4
    initial_alpha: float = 1.0
    target_entropy: float | None = None
    activation: str = "gelu"


def features_of(network: Network, x: Tensor, activation: str) -> Tensor:
    """The values of the last hidden layer, (B, H): the network whose output layer is the identity."""
    width = network[-1][0].shape[0]
    identity = (torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64))
    return mlp([*network[:-1], identity], x, activation)


class Reference:
    """One learner. ``parameters``: layers of "actor", "critic_i" (the mean) and "spread_i" (log s, log sigma)."""

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        numbers = (1, 2) if options.twin_value_distributions else (1,)
        self.critics = [(f"critic_{number}", f"spread_{number}") for number in numbers]
        names = [name for pair in self.critics for name in pair]
        self.parameters = copy_networks(parameters, ["actor", *names], trainable=True)
        online = {name: parameters[name] for name in names}
        self.targets = copy_networks(online, names, trainable=False)
        self.log_alpha = torch.tensor(math.log(options.initial_alpha), dtype=torch.float64, requires_grad=True)
        self.names = names
        self.noise_square = [torch.zeros((), dtype=torch.float64) for _ in self.critics]
        self.error_square = [torch.zeros((), dtype=torch.float64) for _ in self.critics]
        self.optimizers = {
            "critic": Adam(tensors_of(self.parameters, names), options.learning_rate),
            "actor": Adam(tensors_of(self.parameters, ["actor"]), options.learning_rate),
            "temperature": Adam([self.log_alpha], options.learning_rate),
        }
        self.iteration = 0

    def predict(self, networks: Any, pair: tuple[str, str], obs: Tensor, action: Tensor, passed: float) -> list[Tensor]:
        """mu, log s and log sigma, (B,) each; ``passed`` is the share of the spreads' gradient into the features."""
        critic, spread = (networks[name] for name in pair)
        hidden = features_of(critic, torch.cat([obs, action], 1), self.options.activation)
        weight, bias = critic[-1]
        mean = (hidden @ weight + bias)[:, 0]
        seen = passed * hidden + (1 - passed) * hidden.detach()
        (weight_1, bias_1), (weight_2, bias_2) = spread
        raw = ACTIVATIONS[self.options.activation](seen @ weight_1 + bias_1) @ weight_2 + bias_2
        return [mean, (raw[:, 0] + math.log(0.02)).clamp(-8, 3), (raw[:, 1] + math.log(0.05)).clamp(-8, 3)]

    def update(self, batch: Mapping[str, Any], noise: Mapping[str, Any], policy_step: bool) -> None:
        """One iteration; every gradient is taken at the parameters from before it."""
        batch, noise = to_float64(batch), to_float64(noise)
        critic_gradients = self._critic_gradients(batch, noise)
        if policy_step:
            actor_gradients, temperature_gradient = self._actor_gradients(batch, noise)
        self.optimizers["critic"].step(critic_gradients)
        if policy_step:
            self.optimizers["actor"].step(actor_gradients)
            self.optimizers["temperature"].step(temperature_gradient)
            polyak(self.targets, {name: self.parameters[name] for name in self.names}, self.options.tau)
        self.iteration += 1

    @torch.no_grad()
    def _target(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Step 1: y and the variance to add to delta^2, (B,) each."""
        o = self.options
        output = mlp(self.parameters["actor"], batch["next_obs"], o.activation)
        action, log_prob = tanh_normal_sample(output, noise["target"])
        told = [self.predict(self.targets, pair, batch["next_obs"], action, 0.0) for pair in self.critics]
        mean, sigma = told[0][0], told[0][2].exp()
        if len(told) == 2:
            first = told[0][0] <= told[1][0]
            mean, sigma = torch.where(first, mean, told[1][0]), torch.where(first, sigma, told[1][2].exp())
        value = mean - self.log_alpha.exp() * log_prob
        variance = (batch["discount"] * sigma) ** 2
        if not o.expected_value_substitution:
            value = value + sigma * noise["value"].reshape(-1).clamp(-3, 3)
            variance = torch.zeros_like(variance)
        y = batch["reward"] + batch["discount"] * value
        return (y if o.value_bound is None else y.clamp(-o.value_bound, o.value_bound)), variance

    def _critic_gradients(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> list[Tensor]:
        """Steps 1 to 4."""
        o = self.options
        y, variance = self._target(batch, noise)
        loss = torch.zeros((), dtype=torch.float64)
        for index, pair in enumerate(self.critics):
            mean, log_s, log_sigma = self.predict(
                self.parameters, pair, batch["obs"], batch["action"], o.spread_gradient
            )
            delta = (y - mean).detach()
            s, sigma = log_s.detach().exp(), log_sigma.detach().exp()
            for averages, values in ((self.noise_square, s**2), (self.error_square, delta**2)):
                first = self.iteration == 0
                averages[index] = values.mean() if first else (1 - o.rate) * averages[index] + o.rate * values.mean()
            weight, pull = torch.ones_like(delta), delta
            if o.variance_based_gradients:
                m = self.noise_square[index]
                weight = ((m + o.weight_epsilon * m) / (s**2 + o.weight_epsilon * m)).clamp(
                    1 / o.weight_limit, o.weight_limit
                )
                weight = weight / weight.mean()
                if o.xi is not None:
                    kappa = o.xi * self.error_square[index].sqrt()
                    pull = torch.maximum(torch.minimum(delta, kappa), -kappa)
            loss = loss - (weight * pull * mean).mean()
            loss = loss + (log_s * (1 - (delta**2 / s**2).clamp(max=25.0))).mean()
            loss = loss + (log_sigma * (1 - ((delta**2 + variance) / sigma**2).clamp(max=25.0))).mean()
        return list(torch.autograd.grad(loss, tensors_of(self.parameters, self.names)))

    def _actor_gradients(
        self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Steps 5 and 6."""
        o = self.options
        output = mlp(self.parameters["actor"], batch["obs"], o.activation)
        action, log_prob = tanh_normal_sample(output, noise["policy"])
        told = [self.predict(self.parameters, pair, batch["obs"], action, 1.0) for pair in self.critics]
        means, variances = torch.stack([one[0] for one in told]), torch.stack([(2 * one[2]).exp() for one in told])
        disagreement = ((means[0] - means[-1]) / 2) ** 2
        sigma_tot = (variances.mean(0) + disagreement).sqrt()
        loss = (self.log_alpha.exp().detach() * log_prob - means.amin(0) + o.risk * sigma_tot).mean()
        gradients = torch.autograd.grad(loss, tensors_of(self.parameters, ["actor"]))
        target_entropy = -action.shape[1] / 2 if o.target_entropy is None else o.target_entropy
        temperature_loss = -self.log_alpha * (log_prob.detach() + target_entropy).mean()
        actor = split_by_network(gradients, self.parameters, ["actor"])["actor"]
        return actor, list(torch.autograd.grad(temperature_loss, [self.log_alpha]))
