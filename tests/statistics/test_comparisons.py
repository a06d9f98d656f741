"""Paired differences: SciPy's tests in the limits, pairing by seed, Holm, and the rate of false claims."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from support.crossed_effects import equal_strategies, right

from flax_agnews.statistics import crossed
from flax_agnews.statistics.comparisons import Difference, compare, compare_all, holm, paired
from flax_agnews.statistics.outcomes import Outcomes


def losses(values: NDArray[np.float64], seeds: tuple[int, ...] | None = None) -> Outcomes:
    return Outcomes(values, tuple(range(len(values))) if seeds is None else seeds, share=False)


def test_common_seeds_are_paired_whatever_their_order() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    n, differences = paired(losses(a, (9, 5, 7)), losses(b, (7, 6, 5)))
    assert n == 2
    np.testing.assert_array_equal(differences, [a[1] - b[2], a[2] - b[0]])


def test_a_method_without_seeds_is_paired_with_every_seed() -> None:
    rng = np.random.default_rng(1)
    a, fixed = rng.normal(size=(3, 4)), rng.normal(size=(1, 4))
    n, differences = paired(losses(a, (1, 2, 3)), Outcomes(fixed, None, share=False))
    assert n == 3
    np.testing.assert_array_equal(differences, a - fixed)


def test_without_noise_of_texts_it_is_scipys_paired_t_test_over_seeds() -> None:
    rng = np.random.default_rng(2)
    texts, a, b = rng.normal(size=30), rng.normal(1, 1, (6, 1)), rng.normal(0, 1, (6, 1))
    found = compare("a", "b", losses(a + texts), losses(b + texts))
    expected = stats.ttest_rel(a[:, 0], b[:, 0])
    interval = expected.confidence_interval()
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.n_seeds, found.mean) == (6, pytest.approx(a.mean() - b.mean()))


def test_two_methods_without_seeds_have_scipys_paired_t_test_over_texts() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 1, 200))
    found = compare("a", "b", Outcomes(a, None, share=False), Outcomes(b, None, share=False))
    assert found.n_seeds is None
    assert found.p == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue)


def test_a_difference_beyond_doubt_has_a_tiny_p() -> None:
    """Of methods without seeds, on many texts: t is far beyond what a table has, and no number overflows."""
    right = np.random.default_rng(0).random((2, 7600)) < [[0.9], [0.3]]
    found = compare("a", "b", *(Outcomes(row[None].astype(float), None, share=True) for row in right))
    assert found.p is not None
    assert 0 <= found.p < 1e-100


def test_simultaneous_intervals_are_those_of_a_smaller_level() -> None:
    a, b = np.random.default_rng(4).normal(size=(2, 5, 20))
    found = compare("a", "b", losses(a), losses(b), pairs=10)
    low, high = crossed.ends(crossed.estimate(a - b), 0.05 / 10, conservative=True)
    assert (found.low_of_all, found.high_of_all) == (pytest.approx(float(low)), pytest.approx(float(high)))
    assert found.low_of_all < found.low < found.high < found.high_of_all


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_below_five_common_seeds_nothing_is_claimed(seeds: int) -> None:
    a = np.random.default_rng(5).normal(0, 0.01, (seeds, 50))
    (found,) = compare_all({"a": losses(a + 9), "b": losses(a[::-1] * 0.5)})
    assert (found.p, found.p_permutation, found.p_holm, found.shown) == (None, None, None, False)
    assert found.low is not None
    assert found.low > 8
    assert found.needed is not None
    assert found.needed.seeds == (None if seeds == 1 else 5)


def test_what_has_no_common_seed_or_no_noise_is_empty() -> None:
    a = np.random.default_rng(6).normal(size=(2, 9))
    assert compare("a", "b", losses(a, (1, 2)), losses(a, (3, 4))) == Difference("a", "b", 0)
    same = np.repeat(a[:1], 6, axis=0)
    (found,) = compare_all({"a": losses(same), "b": losses(same)})
    assert (found.mean, found.low, found.p, found.shown) == (0, None, None, False)


def test_equal_shares_have_a_narrow_interval_and_no_claim() -> None:
    values = np.ones((5, 100))
    (found,) = compare_all({name: Outcomes(values, tuple(range(5)), share=True) for name in "ab"})
    assert found.mean == 0
    assert found.low == pytest.approx(-found.high)
    assert 0.01 < found.high < 0.05
    assert (found.p, found.p_holm, found.shown) == (1, 1, False)


def test_outcomes_of_different_texts_or_scores_are_refused() -> None:
    a = losses(np.zeros((2, 9)))
    for other in (losses(np.zeros((2, 8))), Outcomes(np.zeros((2, 9)), (0, 1), share=True)):
        with pytest.raises(ValueError, match="same texts"):
            compare("a", "b", a, other)


def test_holms_p_reject_what_his_procedure_rejects() -> None:
    """Smallest p first, each against level / (number left), until one is larger (Holm 1979)."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        p = rng.random(8) ** 4
        adjusted = np.asarray(holm(p.tolist()))
        for level in (0.01, 0.05, 0.3):
            rejected = set()
            for place, number in enumerate(np.argsort(p)):
                if p[number] > level / (8 - place):
                    break
                rejected.add(int(number))
            assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert holm([]) == []


EXPERIMENTS = 1000


def any_claim(values: NDArray[np.float64], share: bool) -> NDArray[np.bool_]:
    """Whether any pair has p of at most 5 % after Holm's correction; values [experiments, strategies, seeds, texts].

    The smallest p is multiplied by the number of pairs, so that it is enough to look for a simultaneous interval
    without 0 (compared with `compare_all` below).
    """
    pairs = list(combinations(range(values.shape[1]), 2))
    claims = np.zeros(len(values), bool)
    for first, second in pairs:
        found = crossed.estimate(values[:, first] - values[:, second], (-1.0, 1.0) if share else ())
        critical = crossed.critical_value(found, 0.05 / len(pairs), conservative=True)
        claims |= np.abs(found.center) > critical * found.error
    return claims


@pytest.mark.parametrize(("of_seeds", "of_texts"), [(0.0, 1.0), (0.4, 1.0), (1.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("strategies", [2, 3, 13])
@pytest.mark.parametrize("seeds", [5, 10])
def test_equal_strategies_are_told_apart_in_at_most_5_of_100_experiments(
    seeds: int, strategies: int, of_seeds: float, of_texts: float
) -> None:
    """Seeds' and texts' effects of each strategy, and some that all share; up to three standard errors above 5 %."""
    drawn = equal_strategies(
        np.random.default_rng(strategies * seeds),
        (EXPERIMENTS, strategies, seeds, 20),
        seeds=of_seeds,
        texts=of_texts,
        shared_seeds=0.5,
    )
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert any_claim(drawn, share=False).mean() <= most
    if strategies < 13:  # among 13 it takes long: see below
        variance = 1 + of_seeds**2 + of_texts**2 + 0.5**2 + 2.0**2
        assert any_claim(right(drawn, 0.8, variance), share=True).mean() <= most


def test_claims_are_among_those_that_the_simulations_count() -> None:
    drawn = equal_strategies(np.random.default_rng(8), (40, 4, 5, 30), seeds=0.5, texts=0.5)
    drawn[:, 0] += np.linspace(0, 4, 40)[:, None, None]
    counted = any_claim(drawn, share=False)
    shown, holm_says = [], []
    for values in drawn:
        found = compare_all({str(number): losses(one) for number, one in enumerate(values)})
        holm_says.append(any(one.p_holm <= 0.05 for one in found))
        shown.append(any(one.shown for one in found))
        assert all((one.needed is None) == one.shown for one in found)
    assert holm_says == counted.tolist()
    assert not np.any(np.asarray(shown) & ~counted)
    assert 5 < sum(shown) < 40


def test_claims_within_equal_groups_stay_rare_when_the_groups_differ() -> None:
    """Holm's correction holds whichever strategies are equal."""
    drawn = equal_strategies(np.random.default_rng(9), (EXPERIMENTS, 4, 5, 20), seeds=0.5, texts=0.5)
    drawn[:, 2:] += 50
    pairs = list(combinations(range(4), 2))
    p = np.stack([crossed.p_value(crossed.estimate(drawn[:, a] - drawn[:, b])) for a, b in pairs], axis=1)
    adjusted = np.array([holm(one.tolist()) for one in p])
    within = [number for number, pair in enumerate(pairs) if pair in ((0, 1), (2, 3))]
    across = [number for number in range(6) if number not in within]
    assert (adjusted[:, within] <= 0.05).any(axis=1).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert (adjusted[:, across] <= 0.05).mean() > 0.99


@pytest.mark.long
@pytest.mark.parametrize("seeds", [5, 10])
def test_thirteen_equal_accuracies_are_told_apart_in_at_most_5_of_100_experiments(seeds: int) -> None:
    rng, claims = np.random.default_rng(seeds), []
    for _ in range(30):
        drawn = equal_strategies(rng, (20, 13, seeds, 1000), seeds=0.2, texts=0.5, shared_seeds=0.1)
        claims.append(any_claim(right(drawn, 0.9, 1 + 0.2**2 + 0.5**2 + 0.1**2 + 2.0**2), share=True))
    assert np.mean(claims) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


@pytest.mark.long
def test_runs_that_collapse_cost_what_is_said_of_them() -> None:
    """The last numbers of the docstring of `crossed`."""
    rng, experiments = np.random.default_rng(10), 6000
    for seeds, covers, claimed in ((5, 0.78, 0.11), (10, 0.91, 0.03)):
        drawn = equal_strategies(rng, (experiments, 1, seeds, 30), seeds=0.1, texts=0.5)[:, 0]
        drawn -= 5.0 * (rng.random((experiments, seeds, 1)) < 0.2)
        low, high = crossed.ends(crossed.estimate(drawn), 0.05, conservative=False)
        assert np.mean((low <= -1) & (high >= -1)) == pytest.approx(covers, abs=0.02)
        drawn = equal_strategies(rng, (2000, 13, seeds, 30), seeds=0.1, texts=0.5)
        drawn -= 5.0 * (rng.random((2000, 13, seeds, 1)) < 0.5)
        assert any_claim(drawn, share=False).mean() == pytest.approx(claimed, abs=0.02)


@pytest.mark.parametrize(("seeds", "points"), [(5, 2.0), (10, 1.0)])
def test_differences_that_matter_are_shown(seeds: int, points: float) -> None:
    """Two strategies of 90 % and some points less on 2,000 texts, whose seeds spread by about half a point."""
    rng, shown = np.random.default_rng(seeds), 0
    for _ in range(30):
        drawn = equal_strategies(rng, (1, 2, seeds, 2000), seeds=0.05, texts=0.5)[0]
        accuracy = np.array([0.9, 0.9 - points / 100])[:, None, None]
        values = right(drawn, accuracy, 1 + 2.0**2 + 0.05**2 + 0.5**2)
        (found,) = compare_all(
            {name: Outcomes(v, tuple(range(seeds)), True) for name, v in zip("ab", values, strict=True)}
        )
        shown += found.shown and found.mean > 0
    assert shown >= 20
