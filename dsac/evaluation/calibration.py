"""How well critics are calibrated: the figures of what dsac.evaluation.monte_carlo measured. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsac.evaluation import statistics

Array = NDArray[np.float64]
# The figures that a training writes with eval.calibration=true, and their tags in TensorBoard and metrics.csv.
TAGS = {
    "bias_percent": "critic/bias_percent",
    "ratio": "critic/sigma_ratio",
    "rank": "critic/sigma_rank_correlation",
    "coverage": "critic/coverage",
}
SIGMAS = 2.0  # returns within so many sigmas of the prediction are covered


class Figures(NamedTuple):
    """How well critics are calibrated, in the task's units; what their algorithm does not learn is None.

    bias      predicted mean minus mean return, over states
    size      mean absolute return, to judge the bias by
    sigma     predicted standard deviation (root mean square over states)
    spread    standard deviation of the returns that followed (root mean square over states)
    ratio     sigma over spread: 1 is calibrated, below 1 is overconfident
    rank      Spearman's correlation of sigma and spread over states: does sigma know where the return varies?
    coverage  share of the returns within two sigmas of the predicted mean; 0.954 of a normal distribution
    """

    bias: float
    size: float
    sigma: float | None
    spread: float
    ratio: float | None
    rank: float | None
    coverage: float | None

    @property
    def bias_percent(self) -> float | None:
        """The bias in percent of the return; None where all returns are 0."""
        return 100 * self.bias / self.size if self.size else None


def figures(found: Mapping[str, Any]) -> Figures:
    """The figures of what `measure` found, or of what was kept of it."""
    mean, returns, spread = (np.array(found[key]) for key in ("mean", "return_mean", "return_deviation"))
    sigma = np.array(found["sigma"]) if "sigma" in found else None
    average = root_mean_square(spread)
    rank = math.nan if sigma is None else statistics.rank_correlation(sigma, spread)
    return Figures(
        bias=float(np.mean(mean - returns)),
        size=float(np.abs(returns).mean()),
        sigma=None if sigma is None else root_mean_square(sigma),
        spread=average,
        ratio=None if sigma is None or not average else root_mean_square(sigma) / average,
        rank=None if math.isnan(rank) else rank,
        coverage=float(np.mean(found["covered"])) if "covered" in found else None,
    )


def root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
