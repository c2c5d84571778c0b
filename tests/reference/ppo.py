"""Reference of PPO's minibatch update (Schulman et al., arXiv 1707.06347), one learner, with its stability controls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .common import Adam, copy_networks, mlp, split_by_network, tensors_of, to_float64

NETWORKS = ["actor", "critic", "log_std"]
ADVANTAGE_EPSILON = 1e-8
NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class Options:
    """Hyper-parameters. The ratio is clipped to [1 - clip_low, 1 + clip_high]; None turns a control off."""

    learning_rate: float = 3e-4
    adam_epsilon: float = 1e-5
    clip_low: float = 0.2
    clip_high: float = 0.2
    value_clip: float | None = None
    value_coefficient: float = 1.0
    entropy_coefficient: float = 0.0
    kl_coefficient: float = 0.0
    normalise_advantage: bool = True
    max_gradient_norm: float | None = None
    target_kl: float | None = None
    activation: str = "tanh"


def normal_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (B,) of the unsquashed diagonal Gaussian at action (B, A), log_std (A,)."""
    e = (action - mean) / torch.exp(log_std)
    return (-0.5 * e**2 - log_std - 0.5 * math.log(2.0 * math.pi)).sum(dim=1)


def normal_entropy(log_std: Tensor) -> Tensor:
    """Entropy in nats, a scalar: sum over actions of log_std + log(2 pi e) / 2."""
    return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum()


def normalised(advantage: Tensor) -> Tensor:
    """(advantage - mean) / (unbiased std + 1e-8) over the minibatch, (B,)."""
    return (advantage - advantage.mean()) / (advantage.std(unbiased=True) + ADVANTAGE_EPSILON)


def surrogate_loss(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """-mean(min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A)): eq. 7 of the paper."""
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def value_loss(value: Tensor, old_value: Tensor, return_: Tensor, value_clip: float | None) -> Tensor:
    """0.5 mean((V - R)^2), or with value_clip 0.5 mean of the larger of that and of V clipped around the old value."""
    error = (value - return_) ** 2
    if value_clip is None:
        return 0.5 * error.mean()
    clipped_value = old_value + (value - old_value).clamp(-value_clip, value_clip)
    return 0.5 * torch.maximum(error, (clipped_value - return_) ** 2).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """The estimate of KL(old, new): mean((ratio - 1) - log ratio)."""
    return ((torch.exp(log_ratio) - 1.0) - log_ratio).mean()


def clipped_by_norm(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """All gradients times min(1, max_norm / (norm + 1e-6)), norm the Euclidean norm of all of them together."""
    norm = torch.sqrt(torch.stack([(gradient**2).sum() for gradient in gradients]).sum())
    coefficient = (max_norm / (norm + NORM_EPSILON)).clamp(max=1.0)
    return [coefficient * gradient for gradient in gradients]


class Reference:
    """One learner. ``parameters`` holds the layers of "actor" (mean) and "critic", and "log_std" as [(log_std (A,),)].

    Readable after an update: ``parameters``, ``optimizers`` ("all"), ``stopped``, ``iteration`` (calls of update, the
    skipped ones too), and of the last update that was not skipped ``gradients`` (network name -> flat list, clipped).
    """

    def __init__(self, parameters: Mapping[str, Any], options: Options) -> None:
        self.options = options
        self.parameters = copy_networks(parameters, NETWORKS, trainable=True)
        self.optimizers = {
            "all": Adam(tensors_of(self.parameters, NETWORKS), options.learning_rate, epsilon=options.adam_epsilon)
        }
        self.stopped = False
        self.iteration = 0
        self.gradients: dict[str, list[Tensor]] = {}

    def start_block(self) -> None:
        """Releases the KL stop: a new block of data begins."""
        self.stopped = False

    def update(self, batch: Mapping[str, Any], noise: Mapping[str, Any], policy_step: bool) -> None:
        """One minibatch; skipped, with Adam's state kept, once the KL stop has latched.

        batch: obs (B, O), action (B, A) unclipped, and (B,) each of log_prob (old), advantage, value (old), return_.
        noise: no draws are used. policy_step: False raises ValueError, PPO has no delay.
        """
        if not policy_step:
            raise ValueError("PPO moves every parameter in every update")
        if noise:
            raise ValueError(f"PPO's update draws nothing, but noise {sorted(noise)} was given")
        options = self.options
        self.iteration += 1
        batch = to_float64(batch)

        mean = mlp(self.parameters["actor"], batch["obs"], options.activation)
        ((log_std,),) = self.parameters["log_std"]
        log_ratio = normal_log_prob(batch["action"], mean, log_std) - batch["log_prob"]
        kl = approximate_kl(log_ratio)
        if options.target_kl is not None and kl.item() > options.target_kl:
            self.stopped = True
        if self.stopped:
            return

        value = mlp(self.parameters["critic"], batch["obs"], options.activation)[:, 0]
        advantage = normalised(batch["advantage"]) if options.normalise_advantage else batch["advantage"]
        loss = (
            surrogate_loss(torch.exp(log_ratio), advantage, options.clip_low, options.clip_high)
            + options.value_coefficient * value_loss(value, batch["value"], batch["return_"], options.value_clip)
            - options.entropy_coefficient * normal_entropy(log_std)
            + options.kl_coefficient * kl
        )
        gradients = list(torch.autograd.grad(loss, tensors_of(self.parameters, NETWORKS)))
        if options.max_gradient_norm is not None:
            gradients = clipped_by_norm(gradients, options.max_gradient_norm)
        self.gradients = split_by_network(gradients, self.parameters, NETWORKS)
        self.optimizers["all"].step(gradients)
