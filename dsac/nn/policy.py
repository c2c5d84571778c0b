"""The deterministic policy that evaluation runs: raw observation in, action in the task's units out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from dsac.nn.networks import ACTIVATIONS, MLP, EnsembleLinear
from dsac.nn.normalization import ObservationNormalizer
from dsac.schema.plain_data import array_misfit, misfit
from envs.contract import EnvSpec

NET = {"sizes": [int], "activation": str, "layer_norm": bool}
FORM = {
    "obs_dim": int, "action_dim": int, "outputs": int, "head": str, "obs_clip": (float, None),
    "net": NET,
}  # fmt: skip
HEADS = ("tanh", "clip")


class Policy(nn.Module):
    """normalise -> net -> squash -> the task's action range -> its limits.

    (B, O) float32 as the task gives it -> (B, A) in the task's units. `head` bounds the net's first A outputs to
    [-1, 1]: "tanh", or "clip" for a policy trained unsquashed. `description` rebuilds it without its algorithm.
    """

    obs_mean: Tensor
    obs_inverse_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = description
        obs_dim, action_dim = description["obs_dim"], description["action_dim"]
        if description["head"] not in HEADS:
            raise ValueError(f"unknown policy head {description['head']!r}: known are {', '.join(HEADS)}")
        self.net = MLP((), obs_dim, description["outputs"], **description["net"])
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_inverse_std", torch.ones(obs_dim))
        self.register_buffer("action_low", torch.zeros(action_dim))
        self.register_buffer("action_high", torch.zeros(action_dim))

    def forward(self, obs: Tensor) -> Tensor:
        clip = self.description["obs_clip"]
        if clip is not None:
            obs = ((obs - self.obs_mean) * self.obs_inverse_std).clamp(-clip, clip)
        unit = self.net(obs)[..., : len(self.action_low)]
        unit = torch.tanh(unit) if self.description["head"] == "tanh" else unit.clamp(-1, 1)
        high_share = (unit + 1) / 2  # this form reaches both limits exactly, also where they are not symmetric
        action = self.action_low * (1 - high_share) + self.action_high * high_share
        return torch.clamp(action, self.action_low, self.action_high)

    @torch.no_grad()
    def act(self, obs: ArrayLike) -> NDArray[np.float32]:
        """Without torch: one observation (O,) or several (B, O), of any float type -> (A,) or (B, A) float32."""
        rows = np.atleast_2d(np.asarray(obs, np.float32))
        action: NDArray[np.float32] = self(torch.from_numpy(rows)).numpy()
        return action if np.ndim(obs) > 1 else action[0]


def restored(description: Any, parameters: Any) -> Policy:
    """A policy from what was saved of it. Raises ValueError where it is none: nothing is made before all fits."""
    wrong = misfit(description, FORM, "description") or misfit(parameters, {str: np.ndarray}, "parameters")
    if wrong:
        raise ValueError(wrong)
    if unknown := sorted(set(description) - set(FORM)):
        raise ValueError(f"description has an unknown {unknown[0]}")
    if description["net"]["activation"] not in ACTIVATIONS or set(description["net"]) - set(NET):
        raise ValueError(f"its net is unknown: {description['net']}")
    if len(description["net"]["sizes"]) > len(parameters) or description["outputs"] < description["action_dim"]:
        raise ValueError("its layers and its parameters are not of one net")
    with torch.device("meta"):
        expected = Policy(description).state_dict()
    if wrong := array_misfit(parameters, expected):
        raise ValueError(wrong)
    policy = Policy(description)
    policy.load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()})
    return policy.requires_grad_(False).eval()


@torch.no_grad()
def policy_of(actor: MLP, learner: int, spec: EnvSpec, head: str, observations: ObservationNormalizer | None) -> Policy:
    """The deterministic policy of one learner of an actor as it is now, on the CPU in float32, its own copy."""
    policy = Policy(
        {
            "obs_dim": spec.obs_dim,
            "action_dim": spec.action_dim,
            "outputs": actor.output.weight.shape[-1],
            "net": {
                "sizes": [layer.get_parameter("weight").shape[-1] for layer in actor.hidden],
                "activation": actor.activation,
                "layer_norm": actor.norms is not None,
            },
            "head": head,
            "obs_clip": None if observations is None else observations.clip,
        }
    )
    policy.net.load_state_dict(slice_of(actor, learner).state_dict())
    policy.action_low.copy_(torch.as_tensor(spec.action_low))
    policy.action_high.copy_(torch.as_tensor(spec.action_high))
    if observations is not None:
        policy.obs_mean.copy_(observations.mean[learner])
        policy.obs_inverse_std.copy_(observations.inverse_std[learner])
    return policy.requires_grad_(False).eval()


@torch.no_grad()
def slice_of(net: MLP, learner: int) -> MLP:
    """The net of one learner: parameters (S, ...) -> (...), copied."""
    single = copy.deepcopy(net)
    for module in single.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter[learner].clone(), requires_grad=False))
        if isinstance(module, EnsembleLinear):
            module.leading = ()
    return single
