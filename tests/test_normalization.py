"""Running statistics against numpy over everything that was shown to them."""

from __future__ import annotations

import numpy as np
import torch

from dsac.normalization import ObservationNormalizer, ReturnNormalizer


def test_observations_are_counted_once_and_exactly():
    """Catches a biased merge of blocks, statistics shared between learners, and a forward pass that learns."""
    torch.manual_seed(0)
    normalizer = ObservationNormalizer(2, 3)
    blocks = [torch.randn(steps, 2, 4, 3) * 5 + 100 for steps in (1, 7, 2)]
    for block in blocks:
        normalizer.observe(block)
        normalizer(block.transpose(0, 1))
    rows = torch.cat(blocks).transpose(0, 1).flatten(1, 2).double()
    torch.testing.assert_close(normalizer.moments.mean, rows.mean(1))
    torch.testing.assert_close(normalizer.moments.variance(), rows.var(1, unbiased=False))
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, unbiased=False, keepdim=True)
    torch.testing.assert_close(normalizer(rows.float()), expected.float(), rtol=1e-4, atol=1e-4)


def test_observations_are_clipped_and_start_as_they_are():
    """Catches a missing clip, and a first block divided by a deviation of zero."""
    normalizer = ObservationNormalizer(1, 2)
    obs = torch.tensor([[[0.5, -30.0]]])
    assert normalizer(obs).tolist() == [[[0.5, -10.0]]]
    normalizer.observe(torch.ones(4, 1, 2, 2))
    assert torch.isfinite(normalizer(obs)).all()


def test_returns_are_cleared_at_episode_ends():
    """Catches a discounted return that runs on into the next episode, and one shared by worlds."""
    normalizer = ReturnNormalizer(1, 2, gamma=0.5)
    reward = torch.tensor([[[1.0, 2.0]], [[1.0, 0.0]], [[4.0, 0.0]]])
    ended = torch.tensor([[[False, True]], [[False, False]], [[False, False]]])
    normalizer.observe(reward[:2], ended[:2])
    normalizer.observe(reward[2:], ended[2:])
    returns = np.array([[1.0, 2.0], [1.5, 0.0], [4.75, 0.0]])
    assert abs(normalizer.std().item() - returns.std()) < 1e-7
    assert normalizer.largest.item() == 4.75
