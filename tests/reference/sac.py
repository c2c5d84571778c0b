"""Reference of SAC (Haarnoja et al., arXiv 1812.05905), one learner: twin minimum, learned temperature, no delay.

a' and logp' come from the current policy, before the actor steps; the critics' loss is the mean squared error, without
a half, summed over the two; every gradient is taken at the parameters from before the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .common import (
    Adam,
    action_value,
    copy_networks,
    mlp,
    polyak,
    split_by_network,
    tanh_normal_sample,
    tensors_of,
    to_float64,
)

CRITICS = ["critic_1", "critic_2"]


@dataclass(frozen=True)
class Options:
    """Hyper-parameters. ``target_entropy`` None is -A; ``fixed_temperature`` None learns it."""

    tau: float = 0.005
    critic_learning_rate: float = 1e-4
    actor_learning_rate: float = 1e-4
    temperature_learning_rate: float = 3e-4
    target_entropy: float | None = None
    initial_log_alpha: float = 1.0
    fixed_temperature: float | None = None
    activation: str = "gelu"


class Reference:
    """One learner. ``parameters`` holds the layers of "actor", "critic_1" and "critic_2"; only critics have targets.

    Readable after an update: ``parameters``, ``targets``, ``log_alpha``, ``optimizers`` ("critic", "actor",
    "temperature"), ``iteration``, and ``gradients`` of that update (network name -> flat list; "log_alpha" -> one).
    """

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        self.parameters = copy_networks(parameters, ["actor", *CRITICS], trainable=True)
        self.targets = copy_networks({name: parameters[name] for name in CRITICS}, CRITICS, trainable=False)
        self.log_alpha = torch.tensor(options.initial_log_alpha, dtype=torch.float64, requires_grad=True)
        self.optimizers = {
            "critic": Adam(tensors_of(self.parameters, CRITICS), options.critic_learning_rate),
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
        noise: "policy" (B, A) for a_pi at s, "next" (B, A) for a' at s', both from the current policy.
        policy_step: whether the actor, the temperature and the critics' targets move too.
        """
        batch, noise = to_float64(batch), to_float64(noise)
        self.gradients = self._critic_gradients(batch, noise)
        if policy_step:
            self.gradients |= self._actor_and_temperature_gradients(batch, noise)

        self.optimizers["critic"].step([g for name in CRITICS for g in self.gradients[name]])
        if policy_step:
            self.optimizers["actor"].step(self.gradients["actor"])
            if self.options.fixed_temperature is None:
                self.optimizers["temperature"].step(self.gradients["log_alpha"])
            polyak(self.targets, self.parameters, self.options.tau)
        self.iteration += 1

    @torch.no_grad()
    def target_values(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """y = r + discount (min_i Q'_i(s', a') - alpha logp'), (B,)."""
        next_output = mlp(self.parameters["actor"], batch["next_obs"], self.options.activation)
        next_action, next_log_prob = tanh_normal_sample(next_output, noise["next"])
        q_1, q_2 = (
            action_value(self.targets[name], batch["next_obs"], next_action, self.options.activation)
            for name in CRITICS
        )
        return batch["reward"] + batch["discount"] * (torch.minimum(q_1, q_2) - self.alpha * next_log_prob)

    def _critic_gradients(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of sum over critics of mean((Q_i(s, a) - y)^2)."""
        y = self.target_values(batch, noise)
        loss = torch.zeros((), dtype=torch.float64)
        for name in CRITICS:
            q = action_value(self.parameters[name], batch["obs"], batch["action"], self.options.activation)
            loss = loss + ((q - y) ** 2).mean()
        gradients = torch.autograd.grad(loss, tensors_of(self.parameters, CRITICS))
        return split_by_network(gradients, self.parameters, CRITICS)

    def _actor_and_temperature_gradients(
        self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, list[Tensor]]:
        """Of mean(alpha logp_pi - min_i Q_i(s, a_pi)) and of -log_alpha mean(logp_pi + target entropy)."""
        options = self.options
        output = mlp(self.parameters["actor"], batch["obs"], options.activation)
        action, log_prob = tanh_normal_sample(output, noise["policy"])
        q_1, q_2 = (action_value(self.parameters[name], batch["obs"], action, options.activation) for name in CRITICS)
        actor_loss = (self.alpha * log_prob - torch.minimum(q_1, q_2)).mean()
        actor_gradients = torch.autograd.grad(actor_loss, tensors_of(self.parameters, ["actor"]))

        target_entropy = -action.shape[1] if options.target_entropy is None else options.target_entropy
        temperature_loss = -self.log_alpha * (log_prob.detach() + target_entropy).mean()
        temperature_gradients = torch.autograd.grad(temperature_loss, [self.log_alpha])
        return {
            **split_by_network(actor_gradients, self.parameters, ["actor"]),
            "log_alpha": list(temperature_gradients),
        }
