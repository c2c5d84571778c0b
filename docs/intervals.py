"""How often the intervals of dsac/evaluation/statistics.py hold the truth, by simulation: python docs/intervals.py"""

from __future__ import annotations

import math

import numpy as np

from dsac.evaluation import statistics

REPEATS = 2000
SEEDS = (3, 5, 10, 20)


def normal(random: np.random.Generator, seeds: int) -> np.ndarray:
    return random.normal(size=seeds)


def left_skewed(random: np.random.Generator, seeds: int) -> np.ndarray:
    """Most runs near the best, a few that failed: a gamma distribution of shape 2, turned round."""
    return -random.gamma(2.0, size=seeds)


def of_the_mean(draw, truth: float, seeds: int, tasks: int, widened: bool) -> float:
    random = np.random.default_rng(seeds)
    hits = 0
    for _ in range(REPEATS):
        scores = [draw(random, seeds) for _ in range(tasks)]
        low, high = statistics.bootstrap_interval(statistics.mean, scores, draws=2_000, widened=widened)
        hits += bool(low <= truth <= high)
    return hits / REPEATS


def of_improvement(shift: float, seeds: int) -> float:
    random = np.random.default_rng(seeds)
    truth, hits = 0.5 * (1 + math.erf(shift / 2)), 0
    for _ in range(REPEATS):
        low, high = statistics.improvement_interval([random.normal(size=seeds) + shift], [random.normal(size=seeds)])
        hits += low <= truth <= high
    return hits / REPEATS


if __name__ == "__main__":
    rows = {
        f"mean, {name}, {tasks} task{'s' if tasks > 1 else ''}, {kind}": [
            of_the_mean(draw, truth, seeds, tasks, kind == "widened") for seeds in SEEDS
        ]
        for name, draw, truth in (("normal", normal, 0.0), ("left-skewed", left_skewed, -2.0))
        for tasks in (1, 4)
        for kind in ("plain", "widened")
    }
    for shift in (0.0, 1.4, 2.3):
        truth = 0.5 * (1 + math.erf(shift / 2))
        rows[f"probability of improvement {truth:.2f}"] = [of_improvement(shift, seeds) for seeds in SEEDS]
    print(f"| coverage of 95% intervals | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |")
    print("|---|" + "---:|" * len(SEEDS))
    for name, shares in rows.items():
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
