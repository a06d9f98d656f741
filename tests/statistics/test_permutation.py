"""The sign-flip test against SciPy's in its limits, all patterns of both kinds of signs, and simulation."""

import numpy as np
import pytest
from scipy import stats
from support.crossed_effects import equal_strategies

from flax_agnews.statistics import crossed
from flax_agnews.statistics.permutation import sign_flip_p


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis)


@pytest.mark.parametrize("seeds", [5, 8])
def test_without_noise_of_texts_it_is_scipys_test_over_seeds(seeds: int) -> None:
    by_seed = np.random.default_rng(seeds).normal(0.7, 1, seeds)
    found = crossed.estimate(np.repeat(by_seed[:, None], 3, axis=1))
    expected = stats.permutation_test((by_seed,), mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(by_seed, found) == pytest.approx(expected.pvalue)


def test_when_all_seeds_agree_p_is_the_smallest_that_they_allow() -> None:
    by_seed = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = crossed.estimate(np.repeat(by_seed[:, None], 3, axis=1))
    assert sign_flip_p(by_seed, found) == 2 / 2**5


def test_without_noise_of_seeds_it_is_scipys_test_over_texts() -> None:
    by_text = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], 300, p=[0.05, 0.85, 0.1])
    found = crossed.estimate(np.repeat(by_text[None], 5, axis=0))
    expected = stats.permutation_test(
        (by_text,), mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(3)
    )
    # Values are whole numbers, between which the normal distribution has no steps: half of one step of p.
    assert sign_flip_p(np.full(5, by_text.mean()), found) == pytest.approx(expected.pvalue, abs=0.015)


def test_with_both_it_is_near_all_patterns_of_signs_of_both() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.6, 0.3, (5, 12)) + rng.normal(0, 1, (5, 1)) + rng.normal(0, 2, 12)
    found = crossed.estimate(values)
    total = found.of_seeds + found.of_texts
    by_seed, by_text = values.mean(axis=1) - found.mean, values.mean(axis=0) - found.mean
    by_text *= np.sqrt(found.of_texts * 12 * 11 / (by_text @ by_text))  # without the rest's noise, which the seeds hold
    by_seed, by_text = by_seed + found.mean * found.of_seeds / total, by_text + found.mean * found.of_texts / total
    seeds, texts = (
        np.array(np.meshgrid(*[[-1.0, 1.0]] * n)).reshape(n, -1).T @ effects / n
        for n, effects in ((5, by_seed), (12, by_text))
    )
    share = np.mean(np.abs(seeds[:, None] + texts) >= abs(found.mean) * (1 - 1e-9))
    assert 0.02 < share < 0.98
    # Twelve signs are normal up to terms of order 1 / 12 of a density.
    assert sign_flip_p(values.mean(axis=1), found) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("seeds", "of_seeds", "texts"), [(5, 0.5, 0.5), (8, 0.1, 1.0), (8, 0.5, 0.0), (20, 0.3, 1.0)])
def test_p_is_small_no_more_often_than_it_says(seeds: int, of_seeds: float, texts: float) -> None:
    drawn = equal_strategies(np.random.default_rng(seeds), (600, 2, seeds, 60), seeds=of_seeds, texts=texts)
    p = np.array([sign_flip_p(one.mean(axis=1), crossed.estimate(one)) for one in drawn[:, 0] - drawn[:, 1]])
    for level in (0.05, 2 / 2**5, 0.2, 0.5):
        assert np.mean(p <= level + 1e-9) <= level + 3 * np.sqrt(level * (1 - level) / 600)
    assert np.mean(p <= 0.5) > 0.35  # nor is it idle
