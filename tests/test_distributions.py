"""Action distributions against torch's own in float64, and against their integral."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from dsac.nn.distributions import normal_log_prob, tanh_normal


def test_tanh_normal_equals_torch():
    """Catches a missing log-std, a wrong sign of the squash term, and a density summed over the wrong axis."""
    torch.manual_seed(0)
    mean, log_std, noise = torch.randn(3, 4, 50, 2, dtype=torch.float64).unbind(0)
    action, log_prob = tanh_normal(mean, log_std.clamp(-3, 0.5), noise)
    theirs = TransformedDistribution(Normal(mean, log_std.clamp(-3, 0.5).exp()), TanhTransform(cache_size=1))
    torch.testing.assert_close(log_prob, theirs.log_prob(action).sum(-1), rtol=1e-7, atol=1e-6)
    assert log_prob.shape == (4, 50)


def test_tanh_normal_stays_exact_where_tanh_saturates():
    """Catches log(1 + 1e-6 - tanh^2): 0.26 nats too high at u = 7, 4.8 at u = 10, and infinite gradients beyond."""
    mean = torch.tensor([[7.0], [10.0], [40.0], [-40.0]], requires_grad=True)
    _, log_prob = tanh_normal(mean, torch.zeros(4, 1), torch.zeros(4, 1))
    u = torch.tensor([7.0, 10.0, 40.0, 40.0], dtype=torch.float64)
    derivative = 2 * (np.log(2) - u + torch.log1p(-torch.exp(-2 * u) / (1 + torch.exp(-2 * u))))
    expected = -0.5 * np.log(2 * np.pi) - derivative
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-6, atol=1e-5)
    assert torch.isfinite(torch.autograd.grad(log_prob.sum(), mean)[0]).all()


def test_tanh_normal_integrates_to_one():
    """Catches any wrong constant: the density over (-1, 1) has mass 1."""
    u = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    mean, log_std = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.3, dtype=torch.float64)
    noise = (u - mean) / log_std.exp()
    action, log_prob = tanh_normal(mean.expand(len(u), 1), log_std.expand(len(u), 1), noise[:, None])
    mass = torch.trapezoid(log_prob.exp(), action[:, 0])
    assert abs(mass.item() - 1) < 1e-6


def test_normal_log_prob_equals_torch():
    """Catches a missing half log two pi and a sum over the wrong axis."""
    mean, log_std, action = torch.randn(3, 6, 2, dtype=torch.float64).unbind(0)
    expected = Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    torch.testing.assert_close(normal_log_prob(mean, log_std, action), expected)
