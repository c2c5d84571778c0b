"""Reference of TD3 (Fujimoto et al., arXiv 1802.09477), one learner, with targets that move in every update.

The original delays the targets together with the actor: ``delay_targets``. The original also lets the actor see critics
that have already stepped; here every gradient is taken at the parameters from before the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .common import Adam, action_value, copy_networks, mlp, polyak, split_by_network, tensors_of, to_float64

CRITICS = ["critic_1", "critic_2"]
NETWORKS = ["actor", *CRITICS]


@dataclass(frozen=True)
class Options:
    """Hyper-parameters. ``delay_targets`` moves the targets on policy steps only, as the original TD3 does."""

    tau: float = 0.005
    critic_learning_rate: float = 1e-4
    actor_learning_rate: float = 1e-4
    target_noise: float = 0.2
    target_noise_clip: float = 0.5
    delay_targets: bool = False
    activation: str = "gelu"


class Reference:
    """One learner. ``parameters`` holds the layers of "actor" (A outputs, squashed by tanh), "critic_1" and "critic_2".

    Readable after an update: ``parameters``, ``targets`` (of all three), ``optimizers`` ("critic", "actor"),
    ``iteration``, and ``gradients`` of that update (network name -> flat list).
    """

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        self.parameters = copy_networks(parameters, NETWORKS, trainable=True)
        self.targets = copy_networks(parameters, NETWORKS, trainable=False)
        self.optimizers = {
            "critic": Adam(tensors_of(self.parameters, CRITICS), options.critic_learning_rate),
            "actor": Adam(tensors_of(self.parameters, ["actor"]), options.actor_learning_rate),
        }
        self.iteration = 0
        self.gradients: dict[str, list[Tensor]] = {}

    def update(self, batch: Mapping[str, Any], noise: Mapping[str, Any], policy_step: bool) -> None:
        """One iteration; every gradient is taken at the parameters from before it.

        batch: obs (B, O), action (B, A), reward (B,), next_obs (B, O), discount (B,) = gamma^n (1 - terminated).
        noise: "target" (B, A), standard normal, for the smoothing of a'.
        policy_step: whether the actor moves too.
        """
        batch, noise = to_float64(batch), to_float64(noise)
        self.gradients = self._critic_gradients(batch, noise)
        if policy_step:
            self.gradients |= self._actor_gradients(batch)

        self.optimizers["critic"].step([g for name in CRITICS for g in self.gradients[name]])
        if policy_step:
            self.optimizers["actor"].step(self.gradients["actor"])
        if policy_step or not self.options.delay_targets:
            polyak(self.targets, self.parameters, self.options.tau)
        self.iteration += 1

    @torch.no_grad()
    def target_values(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """y = r + discount min_i Q'_i(s', a'), (B,), a' = clip(pi'(s') + clip(0.2 n, -0.5, 0.5), -1, 1)."""
        options = self.options
        next_mean = torch.tanh(mlp(self.targets["actor"], batch["next_obs"], options.activation))
        clip = options.target_noise_clip
        next_action = (next_mean + (options.target_noise * noise["target"]).clamp(-clip, clip)).clamp(-1.0, 1.0)
        q_1, q_2 = (
            action_value(self.targets[name], batch["next_obs"], next_action, options.activation) for name in CRITICS
        )
        return batch["reward"] + batch["discount"] * torch.minimum(q_1, q_2)

    def _critic_gradients(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of sum over critics of mean((Q_i(s, a) - y)^2)."""
        y = self.target_values(batch, noise)
        loss = torch.zeros((), dtype=torch.float64)
        for name in CRITICS:
            q = action_value(self.parameters[name], batch["obs"], batch["action"], self.options.activation)
            loss = loss + ((q - y) ** 2).mean()
        gradients = torch.autograd.grad(loss, tensors_of(self.parameters, CRITICS))
        return split_by_network(gradients, self.parameters, CRITICS)

    def _actor_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of -mean Q_1(s, tanh(mu(s)))."""
        action = torch.tanh(mlp(self.parameters["actor"], batch["obs"], self.options.activation))
        loss = -action_value(self.parameters["critic_1"], batch["obs"], action, self.options.activation).mean()
        gradients = torch.autograd.grad(loss, tensors_of(self.parameters, ["actor"]))
        return split_by_network(gradients, self.parameters, ["actor"])
