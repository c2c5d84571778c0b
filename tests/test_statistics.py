"""Statistics over seeds: equal to rliable's and scipy's on the same arrays, intervals that cover as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dsac.evaluation import statistics

RNG = np.random.default_rng(7)
SCORES = [RNG.normal(size=8) + task for task in range(3)]  # three tasks, eight seeds
OTHERS = [RNG.normal(size=8) + task + 0.7 for task in range(3)]


def table(scores: list[np.ndarray]) -> np.ndarray:
    """The arrangement of rliable: seeds x tasks."""
    return np.stack(scores, 1)


@pytest.mark.parametrize("seeds", [3, 4, 5, 7, 10])
def test_point_estimates_equal_rliable(seeds: int):
    """Catches a mean over pooled tasks, a trim that rounds the other way, ties that do not count half."""
    metrics = pytest.importorskip("rliable.metrics")
    scores, others = ([np.round(task[:seeds], 1) for task in part] for part in (SCORES, OTHERS))
    assert statistics.mean(scores) == pytest.approx(metrics.aggregate_mean(table(scores)), abs=1e-12)
    assert statistics.interquartile_mean(scores) == pytest.approx(metrics.aggregate_iqm(table(scores)), abs=1e-12)
    found = statistics.probability_of_improvement(scores, others)
    assert found == pytest.approx(metrics.probability_of_improvement(table(scores), table(others)), abs=1e-12)


@pytest.mark.parametrize("name", ["mean", "interquartile_mean"])
def test_plain_intervals_equal_rliable(name: str):
    """Catches a bootstrap that is not stratified, resamples tasks, or takes other percentiles."""
    pytest.importorskip("rliable")
    from rliable import library, metrics

    function = {"mean": metrics.aggregate_mean, "interquartile_mean": metrics.aggregate_iqm}[name]
    np.random.seed(0)
    _, theirs = library.get_interval_estimates(
        {"x": table(SCORES)}, lambda scores: np.array([function(scores)]), reps=8_000
    )
    ours = statistics.bootstrap_interval(getattr(statistics, name), SCORES, draws=40_000, widened=False)
    assert np.ravel(theirs["x"]) == pytest.approx(list(ours), abs=0.02)  # 2% of a seed's deviation


def test_the_profile_equals_rliable():
    """Catches shares at or above a threshold in place of above it."""
    pytest.importorskip("rliable")
    from rliable import library

    thresholds = np.array([-1.0, 0.0, SCORES[0][0], 1.5, 4.0])
    theirs, _ = library.create_performance_profile({"x": table(SCORES)}, thresholds, reps=10)
    ours, interval = statistics.performance_profile(SCORES, thresholds)
    assert ours == pytest.approx(theirs["x"], abs=1e-12)
    assert np.all((interval.low <= ours) & (ours <= interval.high))


def test_dominance_is_the_statistic_of_mann_and_whitney():
    """Catches wins counted for the other side."""
    assert statistics.dominance(np.array([2.0, 3.0]), np.array([1.0, 2.0, 9.0])) == pytest.approx(3.5 / 6)


def test_equal_values_share_a_rank():
    """Catches ties that are ranked in the order of the states, so that the correlation depends on that order."""
    x, y = np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert statistics.rank_correlation(x, y) == pytest.approx(0.8**0.5)
    assert statistics.rank_correlation(x, y[[1, 0, 3, 2]]) == pytest.approx(0.8**0.5)
    assert np.isnan(statistics.rank_correlation(np.ones(4), y))


def coverage(draw, truth: float, interval, repeats: int = 400) -> float:
    """How often the interval of drawn scores holds the truth."""
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(repeats):
        low, high = interval(draw(random))
        hits += bool(low <= truth <= high)
    return hits / repeats


def left_skewed(random: np.random.Generator, seeds: int) -> np.ndarray:
    """Returns as they often are: most runs near the best, a few that failed."""
    return -random.gamma(2.0, 1.0, seeds)


@pytest.mark.parametrize(
    ("draw", "truth", "tasks", "seeds", "least"),
    [
        (lambda random, n: random.normal(size=n), 0.0, 1, 5, 0.89),
        (lambda random, n: random.normal(size=n), 0.0, 1, 10, 0.93),
        (lambda random, n: random.normal(size=n), 0.0, 4, 5, 0.93),
        (left_skewed, -2.0, 1, 10, 0.90),
        (left_skewed, -2.0, 4, 5, 0.93),
    ],
)
def test_intervals_of_the_mean_cover(draw, truth: float, tasks: int, seeds: int, least: float):
    """Catches the plain percentiles, which cover 84% with five normal seeds, and intervals wider than they say."""

    def interval(scores):
        return statistics.bootstrap_interval(statistics.mean, scores, draws=2_000)

    found = coverage(lambda random: [draw(random, seeds) for _ in range(tasks)], truth, interval)
    assert least <= found <= 0.985


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shift", [0.0, 1.4, 2.3])
def test_intervals_of_the_probability_of_improvement_cover(seeds: int, shift: float):
    """Catches the bootstrap, which covers a probability of 0.95 only half of the time with five seeds."""

    def draw(random):
        return [random.normal(size=seeds) + shift], [random.normal(size=seeds)]

    truth = 0.5 * (1 + math.erf(shift / 2))
    found = coverage(draw, truth, lambda pair: statistics.improvement_interval(*pair))
    assert 0.92 <= found <= 1


def test_three_seeds_against_three_tell_nothing_apart():
    """Catches a verdict from 3 + 3 seeds, whose sharpest outcome has an exact two-sided p of 0.1."""
    low, high = statistics.improvement_interval([np.arange(3.0) + 9], [np.arange(3.0)])
    assert (low, high) == (0.5, 1)
    low, _ = statistics.improvement_interval([np.arange(4.0) + 9], [np.arange(4.0)])
    assert low > 0.5


def test_intervals_over_tasks_of_different_size():
    """Catches tasks that must have equally many seeds, and an interval that leaves [0, 1]."""
    ours, theirs = [np.arange(3.0) + 10, np.arange(5.0)], [np.arange(4.0), np.arange(5.0) - 20]
    assert statistics.probability_of_improvement(ours, theirs) == 1
    low, high = statistics.improvement_interval(ours, theirs)
    assert 0.5 < low < high <= 1
    low, high = statistics.bootstrap_interval(statistics.interquartile_mean, ours)
    assert low < statistics.interquartile_mean(ours) < high


def test_one_seed_has_no_interval():
    """Catches an interval of width zero where nothing is known about the spread."""
    low, high = statistics.bootstrap_interval(statistics.mean, [np.ones((4, 1))])
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert low.shape == (4,)


def test_a_curve_is_resampled_whole():
    """Catches a band whose points are drawn apart from one another, which a difference of two points would show."""
    seeds = np.arange(6.0)
    curve = np.stack([seeds, seeds + 1])  # two points, always one apart
    low, high = statistics.bootstrap_interval(lambda scores: np.diff(statistics.mean(scores), axis=0), [curve])
    assert low == pytest.approx([1.0])
    assert high == pytest.approx([1.0])


def test_curves():
    """Catches extrapolation, a threshold that counts too late, and an area in units of x."""
    x, y = np.array([10.0, 20.0, 40.0]), np.array([0.0, 10.0, 20.0])
    assert statistics.area_under_curve(x, y) == pytest.approx((50 + 300) / 30)
    assert statistics.first_at_least(x, y, 10.0) == 20
    assert statistics.first_at_least(x, y, 20.5) == math.inf
    grid = statistics.common_grid([x, np.array([5.0, 15.0, 30.0])])
    assert grid.tolist() == [10, 15, 20, 30]
    assert statistics.on_grid(x, y, grid).tolist() == [0, 5, 10, 15]
    assert len(statistics.common_grid([np.arange(1000.0)] * 2)) == 256
