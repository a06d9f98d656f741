"""Noise of seeds and texts: against naive loops, SciPy in its limits, and simulations with known means."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats
from support.crossed_effects import equal_strategies

from flax_agnews.statistics import crossed


def test_the_parts_of_the_noise_are_those_of_an_analysis_of_variance() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7)) + np.arange(3)[:, None] + np.arange(7)
    mean, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    seeds = sum(7 * (row - mean) ** 2 for row in rows) / 2
    texts = sum(3 * (column - mean) ** 2 for column in columns) / 6
    rest = sum((values[s, t] - rows[s] - columns[t] + mean) ** 2 for s in range(3) for t in range(7)) / 12
    found = crossed.estimate(values)
    assert found.mean == found.center == pytest.approx(mean)
    assert found.of_seeds == pytest.approx(seeds / 21)
    assert found.of_texts == pytest.approx((texts - rest) / 21)


def test_many_estimates_at_once_are_those_one_by_one() -> None:
    values = np.random.default_rng(1).normal(size=(4, 5, 3, 9))
    found = crossed.estimate(values, (0.0, 1.0))
    one = crossed.estimate(values[2, 3], (0.0, 1.0))
    for name in ("mean", "center", "of_seeds", "of_texts", "error"):
        assert getattr(found, name)[2, 3] == pytest.approx(getattr(one, name))
    assert crossed.p_value(found)[2, 3] == pytest.approx(float(crossed.p_value(one)))
    assert crossed.ends(found, 0.05, False)[0][2, 3] == pytest.approx(float(crossed.ends(one, 0.05, False)[0]))


@pytest.mark.parametrize("conservative", [True, False])
def test_without_noise_of_texts_it_is_scipys_t_test_over_seeds(conservative: bool) -> None:
    by_seed = np.random.default_rng(2).normal(0.5, 1, 6)
    expected = stats.ttest_1samp(by_seed, 0)
    found = crossed.estimate(np.repeat(by_seed[:, None], 4, axis=1))
    for level in (0.05, 1e-6):
        low, high = crossed.ends(found, level, conservative)
        interval = expected.confidence_interval(1 - level)
        assert (low, high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert crossed.p_value(found) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("conservative", [True, False])
@pytest.mark.parametrize("seeds", [1, 4])
def test_without_noise_of_seeds_it_is_scipys_t_test_over_texts(seeds: int, conservative: bool) -> None:
    by_text = np.random.default_rng(3).normal(0.5, 1, 20)
    expected = stats.ttest_1samp(by_text, 0)
    found = crossed.estimate(np.repeat(by_text[None], seeds, axis=0))
    interval = expected.confidence_interval(0.95)
    low, high = crossed.ends(found, 0.05, conservative)
    assert (low, high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert crossed.p_value(found) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("size", [0.3, 3.0, 30.0])
def test_p_is_the_level_whose_conservative_interval_ends_at_0(size: float) -> None:
    found = crossed.estimate(np.random.default_rng(4).normal(size, 1, (5, 8)) + np.arange(5)[:, None])
    low, high = crossed.ends(found, float(crossed.p_value(found)), conservative=True)
    assert min(abs(low), abs(high)) < 1e-8 * (high - low)


def test_the_conservative_value_is_never_smaller() -> None:
    parts = np.linspace(0, 1, 11)
    found = crossed.Estimate(parts, parts, parts, 1 - parts, 3, 500)
    careful, near = (crossed.critical_value(found, 0.05, conservative) for conservative in (True, False))
    assert (careful >= near).all()
    assert (careful[1:-1] > near[1:-1]).all()


@pytest.mark.parametrize(("correct", "n"), [(50, 100), (97, 100), (100, 100), (7123, 7600)])
def test_one_seeds_share_has_agresti_and_coulls_interval(correct: int, n: int) -> None:
    values = np.repeat([1.0, 0.0], [correct, n - correct])[None]
    middle = (correct + 2) / (n + 4)
    # n + 3 instead of n + 4, and t of n - 1 instead of 1.96: the sample's variance is used.
    half = stats.t.ppf(0.975, n - 1) * np.sqrt(middle * (1 - middle) / (n + 3))
    low, high = crossed.ends(crossed.estimate(values, (0.0, 0.0, 1.0, 1.0)), 0.05, False)
    assert (low, high) == (pytest.approx(middle - half), pytest.approx(middle + half))


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(9, 3, 100), (5, 0, 1000), (0, 0, 50)])
def test_one_seeds_difference_of_shares_has_bonett_and_prices_interval(only_a: int, only_b: int, n: int) -> None:
    values = np.repeat([1.0, -1.0, 0.0], [only_a, only_b, n - only_a - only_b])[None]
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((a + b - (a - b) ** 2) / (n + 1))
    low, high = crossed.ends(crossed.estimate(values, (-1.0, 1.0)), 0.05, True)
    assert (low, high) == (pytest.approx(a - b - half), pytest.approx(a - b + half))


def test_equal_values_show_no_noise() -> None:
    found = crossed.estimate(np.full((3, 9), 0.1))  # 0.1 has no exact mean
    assert found.error == 0
    assert np.isnan(crossed.p_value(found))
    assert crossed.limits(found, 0.05, conservative=False) == (None, None)


def test_limits_stay_within_what_is_possible() -> None:
    found = crossed.estimate(np.array([[1.0, 1.0, 1.0, 0.0]]))
    low, high = crossed.ends(found, 0.05, False)
    assert low < 0.0 < 1.0 < high
    assert crossed.limits(found, 0.05, False, (0.0, 1.0)) == (0.0, 1.0)


def test_the_noise_is_estimated_without_bias() -> None:
    """The mean estimate is the variance of the means: seeds^2 / S + texts^2 / T + rest^2 / (S T)."""
    values = equal_strategies(np.random.default_rng(5), (4000, 1, 4, 40), seeds=0.5, texts=0.0)[:, 0]
    found = crossed.estimate(values)
    of_seeds, of_texts = 0.5**2 / 4 + 1 / 160, 2**2 / 40
    # Relative standard errors of 4,000 estimates of 3 and of 39 degrees of freedom: 1.3 % and 0.4 %; three of them.
    assert found.of_seeds.mean() == pytest.approx(of_seeds, rel=0.04)
    assert found.of_texts.mean() == pytest.approx(of_texts, rel=0.012)
    assert found.mean.var() == pytest.approx(of_seeds + of_texts, rel=3 * np.sqrt(2 / 4000))


EXPERIMENTS = 10_000
ERROR = 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)
"""Three standard errors of a simulated share of 5 %."""


@pytest.mark.parametrize("of_seeds", [0.0, 0.1, 0.3, 1.0, 3.0], ids=lambda sd: f"sd {sd}")
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_true_mean_in_95_of_100_experiments(seeds: int, of_seeds: float) -> None:
    """From seeds without an effect to those that are nearly all of the noise; within two points of 95 %."""
    rng = np.random.default_rng(seeds)
    values = equal_strategies(rng, (EXPERIMENTS, 1, seeds, 30), seeds=of_seeds, texts=0.0, shared_texts=1.0)[:, 0]
    found = crossed.estimate(values)
    covered = {}
    for conservative in (False, True):
        low, high = crossed.ends(found, 0.05, conservative)
        covered[conservative] = np.mean((low <= 0) & (high >= 0))
    assert 0.93 <= covered[False] <= 0.97 + ERROR
    assert covered[True] >= 0.95 - ERROR


@pytest.mark.long
def test_other_intervals_miss_more() -> None:
    """The numbers of the docstring of `crossed`, by simulation of the two estimated variances alone."""
    rng, n = np.random.default_rng(6), 200_000
    worst: dict[tuple[str, int], float] = {}
    largest: dict[tuple[str, int], float] = {}
    for seeds in (2, 3, 5, 10):
        for ratio in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0, 3.0, 10.0, 30.0, 100.0):
            of_seeds = ratio * rng.chisquare(seeds - 1, n) / (seeds - 1)
            off = np.abs(rng.standard_normal(n)) * np.sqrt(ratio + 1)
            halves = half_widths(of_seeds, seeds)
            for name, half in halves.items():
                covered = float(np.mean(off <= half))
                worst[name, seeds] = min(covered, worst.get((name, seeds), 1.0))
                largest[name, seeds] = max(covered, largest.get((name, seeds), 0.0))
    for seeds, bootstrap, satterthwaite, near, careful in (
        (3, 0.76, 0.922, 0.971, 0.975),
        (5, 0.85, 0.942, 0.964, 0.966),
        (10, 0.90, 0.948, 0.957, 0.958),
    ):
        assert worst["bootstrap", seeds] == pytest.approx(bootstrap, abs=0.01)
        assert worst["satterthwaite", seeds] == pytest.approx(satterthwaite, abs=0.003)
        for name, most in (("near", near), ("conservative", careful)):
            # The least of ten simulated shares, each with a standard error of 0.05 points.
            assert worst[name, seeds] == pytest.approx(0.95, abs=0.002)
            assert largest[name, seeds] == pytest.approx(most, abs=0.003)
    assert (worst["near", 2], largest["near", 2]) == (pytest.approx(0.939, abs=0.003), pytest.approx(0.978, abs=0.003))


def half_widths(of_seeds: NDArray[np.float64], seeds: int) -> dict[str, NDArray[np.float64]]:
    """Half of each 95 % interval when the texts' variance is known to be 1."""
    total = of_seeds + 1
    found = crossed.Estimate(total, total, of_seeds, np.ones_like(total), seeds, 10**7)
    freedom = total**2 / (of_seeds**2 / (seeds - 1) + 1e-7)
    return {
        "bootstrap": 1.96 * np.sqrt(of_seeds * (seeds - 1) / seeds + 1),
        "satterthwaite": special.stdtrit(freedom, 0.975) * np.sqrt(total),
        "near": crossed.critical_value(found, 0.05, conservative=False) * found.error,
        "conservative": crossed.critical_value(found, 0.05, conservative=True) * found.error,
    }
