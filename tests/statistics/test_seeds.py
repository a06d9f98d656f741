"""Statistics against SciPy's own tests and closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from flax_agnews.statistics import seeds as over_seeds


@pytest.mark.parametrize("n", [2, 3, 10])
def test_summary_is_scipys_t_interval(n: int) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    result = over_seeds.summarize(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (result.n, result.mean) == (n, pytest.approx(values.mean()))
    assert result.sd == pytest.approx(math.sqrt(sum((v - values.mean()) ** 2 for v in values) / (n - 1)))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))


def test_two_values_have_the_closed_form() -> None:
    # One degree of freedom is the Cauchy distribution: its 97.5 % point is tan(0.475 pi).
    result = over_seeds.summarize([0.90, 0.94])
    half = math.tan(0.475 * math.pi) * 0.02
    assert (result.low, result.high) == (pytest.approx(0.92 - half), pytest.approx(0.92 + half))


def test_one_value_has_no_spread_and_equal_values_no_interval() -> None:
    assert over_seeds.summarize([0.5]) == over_seeds.Summary(1, 0.5, None, None, None)
    equal = over_seeds.summarize([0.1, 0.1, 0.1])
    assert (equal.sd, equal.low, equal.high) == (0.0, None, None)
    with pytest.raises(ValueError, match="no values"):
        over_seeds.summarize([])


def test_tiny_but_real_spread_is_kept() -> None:
    assert over_seeds.summarize([1e-6, 2e-6]).sd == pytest.approx(1e-6 / math.sqrt(2))


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 1), (934, 1000), (7123, 7600)])
def test_wilson_is_scipys(correct: int, n: int) -> None:
    expected = stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert over_seeds.wilson_interval(correct / n, n) == (
        pytest.approx(expected.low, abs=1e-12),
        pytest.approx(expected.high, abs=1e-12),
    )


@pytest.mark.parametrize(("accuracy", "n"), [(0.5, 0), (1.1, 10), (-0.1, 10)])
def test_wilson_refuses_nonsense(accuracy: float, n: int) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        over_seeds.wilson_interval(accuracy, n)


def test_paired_difference_is_scipys_paired_t_test_over_common_seeds() -> None:
    rng = np.random.default_rng(3)
    a = {seed: float(rng.normal(0.93, 0.01)) for seed in (41, 42, 43, 44, 45)}
    b = {seed: float(rng.normal(0.92, 0.01)) for seed in (45, 44, 43, 42, 99)}
    common = [42, 43, 44, 45]
    expected = stats.ttest_rel([a[s] for s in common], [b[s] for s in common])
    interval = expected.confidence_interval(0.95)
    result = over_seeds.paired_difference(a, b)
    assert result.n == len(common)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.low, result.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert result.mean == pytest.approx(np.mean([a[s] - b[s] for s in common]))


def test_paired_difference_says_what_it_cannot_know() -> None:
    nothing = over_seeds.paired_difference({1: 0.5}, {2: 0.5})
    assert nothing == over_seeds.PairedDifference(0, None, None, None, None, None)
    one = over_seeds.paired_difference({1: 0.75}, {1: 0.5})
    assert one == over_seeds.PairedDifference(1, 0.25, None, None, None, None)
    # 0.9 - 0.8 and 0.8 - 0.7 differ in the last bit only.
    constant = over_seeds.paired_difference({1: 0.9, 2: 0.8}, {1: 0.8, 2: 0.7})
    assert (constant.n, constant.mean, constant.sd) == (2, pytest.approx(0.1), 0.0)
    assert (constant.low, constant.high, constant.p) == (None, None, None)
