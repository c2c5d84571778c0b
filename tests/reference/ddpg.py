"""Reference of DDPG (Lillicrap et al., arXiv 1509.02971), one learner: one critic, target policy, no delay.

Every gradient is taken at the parameters from before the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .common import Adam, action_value, copy_networks, mlp, polyak, split_by_network, tensors_of, to_float64

NETWORKS = ["actor", "critic_1"]


@dataclass(frozen=True)
class Options:
    """Hyper-parameters."""

    tau: float = 0.005
    critic_learning_rate: float = 1e-4
    actor_learning_rate: float = 1e-4
    activation: str = "gelu"


class Reference:
    """One learner. ``parameters`` holds the layers of "actor" (A outputs, squashed by tanh) and "critic_1".

    Readable after an update: ``parameters``, ``targets`` (of both), ``optimizers`` ("critic", "actor"), ``iteration``,
    and ``gradients`` of that update (network name -> flat list).
    """

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        self.parameters = copy_networks(parameters, NETWORKS, trainable=True)
        self.targets = copy_networks(parameters, NETWORKS, trainable=False)
        self.optimizers = {
            "critic": Adam(tensors_of(self.parameters, ["critic_1"]), options.critic_learning_rate),
            "actor": Adam(tensors_of(self.parameters, ["actor"]), options.actor_learning_rate),
        }
        self.iteration = 0
        self.gradients: dict[str, list[Tensor]] = {}

    def update(self, batch: Mapping[str, Any], noise: Mapping[str, Any], policy_step: bool) -> None:
        """One iteration; every gradient is taken at the parameters from before it, and everything moves.

        batch: obs (B, O), action (B, A), reward (B,), next_obs (B, O), discount (B,) = gamma^n (1 - terminated).
        noise: no draws are used. policy_step: False raises ValueError, DDPG has no delay.
        """
        if not policy_step:
            raise ValueError("DDPG moves the actor and the targets in every update")
        if noise:
            raise ValueError(f"DDPG's update draws nothing, but noise {sorted(noise)} was given")
        batch = to_float64(batch)
        self.gradients = self._critic_gradients(batch) | self._actor_gradients(batch)

        self.optimizers["critic"].step(self.gradients["critic_1"])
        self.optimizers["actor"].step(self.gradients["actor"])
        polyak(self.targets, self.parameters, self.options.tau)
        self.iteration += 1

    @torch.no_grad()
    def target_values(self, batch: Mapping[str, Tensor]) -> Tensor:
        """y = r + discount Q'(s', pi'(s')), (B,)."""
        next_action = torch.tanh(mlp(self.targets["actor"], batch["next_obs"], self.options.activation))
        next_q = action_value(self.targets["critic_1"], batch["next_obs"], next_action, self.options.activation)
        return batch["reward"] + batch["discount"] * next_q

    def _critic_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of mean((Q(s, a) - y)^2)."""
        y = self.target_values(batch)
        q = action_value(self.parameters["critic_1"], batch["obs"], batch["action"], self.options.activation)
        gradients = torch.autograd.grad(((q - y) ** 2).mean(), tensors_of(self.parameters, ["critic_1"]))
        return split_by_network(gradients, self.parameters, ["critic_1"])

    def _actor_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of -mean Q(s, tanh(mu(s)))."""
        action = torch.tanh(mlp(self.parameters["actor"], batch["obs"], self.options.activation))
        loss = -action_value(self.parameters["critic_1"], batch["obs"], action, self.options.activation).mean()
        gradients = torch.autograd.grad(loss, tensors_of(self.parameters, ["actor"]))
        return split_by_network(gradients, self.parameters, ["actor"])
