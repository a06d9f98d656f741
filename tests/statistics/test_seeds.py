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
