"""Seeds needed: against SciPy's t, and by repeating experiments with so many seeds."""

import numpy as np
import pytest
from scipy import stats

from flax_agnews.statistics import crossed
from flax_agnews.statistics.planning import MOST_SEEDS, SeedsNeeded, seeds_needed


def noise(difference: float, of_seeds: float, of_texts: float, seeds: int = 3) -> crossed.Estimate:
    """What three seeds saw: variances of the mean over these seeds."""
    middle = np.asarray(difference)
    return crossed.Estimate(middle, middle, np.asarray(of_seeds), np.asarray(of_texts), seeds, 1000)


@pytest.mark.parametrize("difference", [0.4, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("level", [0.05, 0.05 / 78])
def test_without_noise_of_texts_it_is_the_first_number_whose_t_interval_excludes_0(
    difference: float, level: float
) -> None:
    enough = [n for n in range(5, MOST_SEEDS + 1) if stats.t.ppf(1 - level / 2, n - 1) / np.sqrt(n) < difference]
    assert seeds_needed(noise(difference, 1 / 3, 0.0), level, 5) == SeedsNeeded(enough[0], None)


def test_the_limit_is_named() -> None:
    assert seeds_needed(noise(0.1, 1 / 3, 0.0), 0.05, 5) == SeedsNeeded(None, "seeds")  # 1.96^2 / 0.1^2 = 384 seeds
    assert seeds_needed(noise(1.0, 1 / 3, 0.3**2), 0.05, 5).seeds is not None
    assert seeds_needed(noise(1.0, 1 / 3, 0.6**2), 0.05, 5) == SeedsNeeded(None, "texts")  # 1.96 x 0.6 > 1
    assert seeds_needed(noise(1.0, 0.0, 0.1, seeds=1), 0.05, 5) == SeedsNeeded(None, "unknown")
    assert seeds_needed(noise(0.0, 1.0, 0.1), 0.05, 5).seeds is None


def test_methods_without_seeds_get_no_advice_to_have_more() -> None:
    assert seeds_needed(noise(1.0, 0.0, 0.3, seeds=1), 0.05, 5, without_seeds=True) == SeedsNeeded(None, "texts")


def test_experiments_with_so_many_seeds_show_the_difference_about_half_the_time() -> None:
    rng = np.random.default_rng(0)
    # Per seed 1, the texts' part of the mean 0.2: the truth is what was seen.
    plan = seeds_needed(noise(0.9, 1 / 3, 0.2**2), 0.05, 5)
    assert plan.seeds is not None
    assert 5 < plan.seeds < 20
    values = 0.9 + rng.normal(size=(2000, plan.seeds, 1)) + rng.normal(0, 0.2 * np.sqrt(50), (2000, 1, 50))
    shown = np.mean(crossed.p_value(crossed.estimate(values)) <= 0.05)
    assert 0.4 < shown < 0.65
    fewer = 0.9 + rng.normal(size=(2000, 4, 1)) + rng.normal(0, 0.2 * np.sqrt(50), (2000, 1, 50))
    assert np.mean(crossed.p_value(crossed.estimate(fewer)) <= 0.05) < shown - 0.1
