"""Reference of DSAC-T and DSAC-v1 (arXiv 2310.05858 and the authors' released code), one learner.

The steps of update k, whose numbers the docstrings cite; sg is "detached":

1. a_pi, logp_pi from the policy at s; a', logp' from the target policy at s'.
2. m_i: moving average of the batch mean of sigma_i at rate tau_b, the batch mean itself at k = 0, taken before use.
3. Z_i = Q'_i + sigma'_i z_i, z_i clamped to [-3, 3], from the targets; j is the critic with the smaller mean Q'.
   y_q = r + discount (Q'_j - alpha logp'), y_z = r + discount (Z_j - alpha logp'), alpha the old one.
4. y_z,i = Q_i + clamp(y_z - Q_i, -xi m_i, xi m_i), Q_i detached.
5. Critic gradients, mean over the batch, sum over critics. The paper's form:
     dL/dQ_i     = (m_i^2 + eps) (Q_i - y_q) / (sg sigma_i^2 + eps)
     dL/dsigma_i = (m_i^2 + eps) (sigma_i^2 - (Q_i - y_z,i)^2) / (sg sigma_i^3 + eps)
   The form of the code since 2025: w (Huber(Q_i - y_q) + sigma_i (sg sigma_i^2 - Huber(sg Q_i - y_z,i)) / (sg sigma_i
   + eps)), w = clamp(m_i^2 / (sg sigma_i^2 + eps), 0.1, 10).
6. Actor: mean(alpha logp_pi - min_i Q_i(s, a_pi)), critics from before this update.
7. Temperature: -log_alpha mean(logp_pi + target entropy).
8. Critics step in every update; actor, temperature and the three targets on policy steps only.

Switched off, expected value substitution puts y_z, unclipped, for y_q; twin value distributions leave one critic with
its own target; the variance-adjusted gradients leave a constant bound and the weight 1 (2025 form: 1 / (sigma^2 + eps),
our choice).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .common import (
    Adam,
    Network,
    copy_networks,
    mlp,
    polyak,
    softplus,
    split_by_network,
    tanh_normal_sample,
    tensors_of,
    to_float64,
)

NOISE_BOUND = 3.0
WEIGHT_LOW, WEIGHT_HIGH = 0.1, 10.0


@dataclass(frozen=True)
class Options:
    """Hyper-parameters. All three switches on is DSAC-T, all off is DSAC-v1 (one critic).

    ``target_entropy`` None is -A; ``fixed_temperature`` None learns it; ``td_bound`` is the constant bound that holds
    when ``variance_adjusted_gradients`` is off; ``epsilon_relative`` puts epsilon in units of m_i: epsilon times
    m_i, m_i^2 or m_i^3, as its place demands; ``huber_delta`` infinite is 0.5 d^2 (2025 form only).
    """

    loss_form: Literal["paper", "2025"] = "paper"
    expected_value_substitution: bool = True
    twin_value_distributions: bool = True
    variance_adjusted_gradients: bool = True
    td_bound: float = 20.0
    xi: float = 3.0
    epsilon: float = 0.1
    epsilon_relative: bool = False
    huber_delta: float = 50.0
    tau: float = 0.005
    tau_b: float = 0.005
    critic_learning_rate: float = 1e-4
    actor_learning_rate: float = 1e-4
    temperature_learning_rate: float = 3e-4
    target_entropy: float | None = None
    initial_log_alpha: float = 1.0
    fixed_temperature: float | None = None
    activation: str = "gelu"


def value_distribution(network: Network, obs: Tensor, action: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Mean Q (B,) and standard deviation sigma = softplus(raw) (B,) of a critic with two outputs."""
    output = mlp(network, torch.cat([obs, action], dim=1), activation)
    return output[:, 0], softplus(output[:, 1])


def smaller_mean(means: list[Tensor], values: list[Tensor]) -> Tensor:
    """Per sample, the value (B,) of the critic whose mean is smaller; ties go to critic 2; one critic is itself."""
    if len(means) == 1:
        return values[0]
    return torch.where(means[0] < means[1], values[0], values[1])


def moving_average(previous: Tensor, sigma: Tensor, iteration: int, tau_b: float) -> Tensor:
    """Step 2: m of one critic, the batch mean itself at k = 0."""
    batch_mean = sigma.detach().mean()
    return batch_mean if iteration == 0 else (1.0 - tau_b) * previous + tau_b * batch_mean


def bounded_target(q: Tensor, y_z: Tensor, bound: Tensor | float) -> Tensor:
    """Step 4: Q_i + clamp(y_z - Q_i, -bound, bound) with Q_i detached, (B,)."""
    q = q.detach()
    return q + torch.clamp(y_z - q, -bound, bound)


def paper_gradients(
    q: Tensor,
    sigma: Tensor,
    *,
    y_mean: Tensor,
    y_bounded: Tensor,
    weight: Tensor | float,
    epsilon: float,
    unit: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Step 5, the paper's form: per-sample dL/dQ_i and dL/dsigma_i, (B,), before the mean over the batch.

    ``weight`` is m_i^2 + eps, or 1 when the variance-adjusted gradients are off; ``unit`` is m_i or 1, see Options.
    """
    q, sigma = q.detach(), sigma.detach()
    q_gradient = weight * (q - y_mean) / (sigma**2 + epsilon * unit**2)
    sigma_gradient = weight * (sigma**2 - (q - y_bounded) ** 2) / (sigma**3 + epsilon * unit**3)
    return q_gradient, sigma_gradient


def huber(difference: Tensor, delta: float) -> Tensor:
    """0.5 d^2 up to delta, delta (|d| - delta / 2) beyond."""
    square = 0.5 * difference**2
    if math.isinf(delta):
        return square
    distance = difference.abs()
    return torch.where(distance <= delta, square, delta * (distance - 0.5 * delta))


def loss_2025(
    q: Tensor,
    sigma: Tensor,
    *,
    y_mean: Tensor,
    y_bounded: Tensor,
    weight: Tensor,
    epsilon: float,
    huber_delta: float,
    unit: Tensor | float = 1.0,
) -> Tensor:
    """Step 5, the form of 2025: per-sample loss (B,), before the mean over the batch.

    w (Huber(Q_i - y_q) + sigma_i (sg sigma_i^2 - Huber(sg Q_i - y_z,i)) / (sg sigma_i + eps)), w detached.
    """
    fixed_sigma = sigma.detach()
    mean_term = huber(q - y_mean, huber_delta)
    sigma_factor = (fixed_sigma**2 - huber(q.detach() - y_bounded, huber_delta)) / (fixed_sigma + epsilon * unit)
    return weight * (mean_term + sigma * sigma_factor)


class Reference:
    """One learner. ``parameters`` holds the layers of "actor", "critic_1" and, with twin critics, "critic_2".

    Readable after an update: ``parameters``, ``targets``, ``log_alpha``, ``moving_sigma`` (one scalar a critic),
    ``optimizers`` ("critic", "actor", "temperature"), ``iteration``, and ``gradients`` of that update (network name ->
    flat list; "log_alpha" -> one).
    """

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        self.critic_names = ["critic_1", "critic_2"] if options.twin_value_distributions else ["critic_1"]
        names = ["actor", *self.critic_names]
        self.parameters = copy_networks(parameters, names, trainable=True)
        self.targets = copy_networks(parameters, names, trainable=False)
        self.log_alpha = torch.tensor(options.initial_log_alpha, dtype=torch.float64, requires_grad=True)
        self.moving_sigma = [torch.zeros((), dtype=torch.float64) for _ in self.critic_names]
        self.optimizers = {
            "critic": Adam(tensors_of(self.parameters, self.critic_names), options.critic_learning_rate),
            "actor": Adam(tensors_of(self.parameters, ["actor"]), options.actor_learning_rate),
            "temperature": Adam([self.log_alpha], options.temperature_learning_rate),
        }
        self.iteration = 0
        self.gradients: dict[str, list[Tensor]] = {}

    @property
    def alpha(self) -> Tensor:
        """The temperature, detached."""
        if self.options.fixed_temperature is not None:
            return torch.tensor(self.options.fixed_temperature, dtype=torch.float64)
        return self.log_alpha.detach().exp()

    def update(self, batch: Mapping[str, Any], noise: Mapping[str, Any], policy_step: bool) -> None:
        """One iteration; every gradient is taken at the parameters from before it.

        batch: obs (B, O), action (B, A), reward (B,), next_obs (B, O), discount (B,) = gamma^n (1 - terminated).
        noise: "policy" (B, A) for a_pi at s, "target" (B, A) for a' at s', "value" (E, B) for Z of each critic.
        policy_step: whether the actor, the temperature and all targets move too.
        """
        batch, noise = to_float64(batch), to_float64(noise)
        self.gradients = self._critic_gradients(batch, noise)
        if policy_step:
            self.gradients |= self._actor_and_temperature_gradients(batch, noise)

        self.optimizers["critic"].step([g for name in self.critic_names for g in self.gradients[name]])
        if policy_step:
            self.optimizers["actor"].step(self.gradients["actor"])
            if self.options.fixed_temperature is None:
                self.optimizers["temperature"].step(self.gradients["log_alpha"])
            polyak(self.targets, self.parameters, self.options.tau)
        self.iteration += 1

    @torch.no_grad()
    def target_values(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Steps 1 and 3: y_q and y_z, (B,), from the targets, the target policy and the old alpha."""
        options = self.options
        next_output = mlp(self.targets["actor"], batch["next_obs"], options.activation)
        next_action, next_log_prob = tanh_normal_sample(next_output, noise["target"])
        means, draws = [], []
        for index, name in enumerate(self.critic_names):
            mean, sigma = value_distribution(self.targets[name], batch["next_obs"], next_action, options.activation)
            z = noise["value"][index].clamp(-NOISE_BOUND, NOISE_BOUND)
            means.append(mean)
            draws.append(mean + sigma * z)
        entropy_cost = self.alpha * next_log_prob
        y_q = batch["reward"] + batch["discount"] * (smaller_mean(means, means) - entropy_cost)
        y_z = batch["reward"] + batch["discount"] * (smaller_mean(means, draws) - entropy_cost)
        return y_q, y_z

    def _critic_gradients(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Steps 2 to 5; moves the moving averages. Mean over the batch, sum over critics."""
        options = self.options
        y_q, y_z = self.target_values(batch, noise)
        y_mean = y_q if options.expected_value_substitution else y_z
        gradients = {}
        for index, name in enumerate(self.critic_names):
            network = self.parameters[name]
            q, sigma = value_distribution(network, batch["obs"], batch["action"], options.activation)
            m = moving_average(self.moving_sigma[index], sigma, self.iteration, options.tau_b)
            self.moving_sigma[index] = m
            unit = m if options.epsilon_relative else 1.0
            epsilon = options.epsilon
            bound = options.xi * m if options.variance_adjusted_gradients else options.td_bound
            y_bounded = bounded_target(q, y_z, bound)

            tensors = tensors_of(self.parameters, [name])
            if options.loss_form == "paper":
                weight = m**2 + epsilon * unit**2 if options.variance_adjusted_gradients else 1.0
                q_gradient, sigma_gradient = paper_gradients(
                    q, sigma, y_mean=y_mean, y_bounded=y_bounded, weight=weight, epsilon=epsilon, unit=unit
                )
                batch_size = q.shape[0]
                gradients[name] = list(
                    torch.autograd.grad([q, sigma], tensors, [q_gradient / batch_size, sigma_gradient / batch_size])
                )
            else:
                fixed_variance = sigma.detach() ** 2
                if options.variance_adjusted_gradients:
                    weight = (m**2 / (fixed_variance + epsilon * unit**2)).clamp(WEIGHT_LOW, WEIGHT_HIGH)
                else:
                    # our choice: the released code has no such case
                    weight = 1.0 / (fixed_variance + epsilon * unit**2)
                loss = loss_2025(
                    q,
                    sigma,
                    y_mean=y_mean,
                    y_bounded=y_bounded,
                    weight=weight,
                    epsilon=epsilon,
                    huber_delta=options.huber_delta,
                    unit=unit,
                ).mean()
                gradients[name] = list(torch.autograd.grad(loss, tensors))
        return gradients

    def _actor_and_temperature_gradients(
        self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, list[Tensor]]:
        """Steps 6, 7: of mean(alpha logp_pi - min_i Q_i(s, a_pi)) and of -log_alpha mean(logp_pi + target entropy)."""
        options = self.options
        output = mlp(self.parameters["actor"], batch["obs"], options.activation)
        action, log_prob = tanh_normal_sample(output, noise["policy"])
        means = [
            value_distribution(self.parameters[name], batch["obs"], action, options.activation)[0]
            for name in self.critic_names
        ]
        actor_loss = (self.alpha * log_prob - smaller_mean(means, means)).mean()
        actor_gradients = torch.autograd.grad(actor_loss, tensors_of(self.parameters, ["actor"]))

        target_entropy = -action.shape[1] if options.target_entropy is None else options.target_entropy
        temperature_loss = -self.log_alpha * (log_prob.detach() + target_entropy).mean()
        temperature_gradients = torch.autograd.grad(temperature_loss, [self.log_alpha])
        return {
            **split_by_network(actor_gradients, self.parameters, ["actor"]),
            "log_alpha": list(temperature_gradients),
        }
