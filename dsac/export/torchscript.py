"""TorchScript, for controllers that have not moved on yet: the same guard around the same policy."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsac.nn.policy import Policy


class Guarded(nn.Module):
    """(B, O) -> actions (B, A), valid (B,): the policy's action, or the safe one where the observation is not trusted.

    Not valid: an entry that is not finite, one beyond obs_abs_max in size, or a net that overflowed. The net never sees
    an entry that was refused.
    """

    safe: Tensor

    def __init__(self, policy: Policy, obs_abs_max: float, safe: NDArray[np.float32]) -> None:
        super().__init__()
        self.policy, self.obs_abs_max = policy, obs_abs_max
        self.register_buffer("safe", torch.from_numpy(safe.copy()))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        trusted = ~torch.isnan(obs) & (obs.abs() <= self.obs_abs_max)
        actions = self.policy(torch.where(trusted, obs, torch.zeros_like(obs)))
        valid = trusted.all(-1) & ~torch.isnan(actions).any(-1)
        return torch.where(valid.unsqueeze(-1), actions, self.safe), valid


def write_torchscript(guarded: Guarded) -> bytes:
    """The traced module; any number of rows."""
    obs = torch.zeros(2, len(guarded.policy.obs_mean))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and it doubts sizes that never change
        traced: Any = torch.jit.trace(guarded.eval(), (obs,))  # type: ignore[no-untyped-call]  # torch.jit has no types
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


def read_torchscript(content: bytes) -> Any:
    """The module back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]  # torch.jit has no types
