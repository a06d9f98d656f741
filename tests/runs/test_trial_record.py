"""The plan of a search for learning rates, by brute force: the grid, the halving, the ranks."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_agnews.runs.trial_record import Record, Trial, grid, half, halving


@pytest.mark.parametrize("trials", range(2, 16))
def test_factors_are_a_geometric_grid_around_the_default(trials):
    factors = grid(trials)
    assert len(factors) == trials
    np.testing.assert_allclose(np.diff(np.log10(factors)), 0.5, rtol=1e-12)
    assert 1.0 in factors
    assert max(factors) * min(factors) == pytest.approx(1 if trials % 2 else 10**0.5)


@given(st.integers(2, 15), st.integers(1, 200), st.integers(1, 40))
def test_halving_is_the_longest_within_its_budget(trials, steps, quarters):
    """Each round's part is the first of 1, 1/2, 1/3 ... of which all that are left cost no more than the round may."""
    budget = Fraction(quarters, 4)
    left = [trials]
    while left[-1] > 1:
        left.append(left[-1] - left[-1] // 2)
    rounds = left[:-1]
    parts = [next(part for part in itertools.count(1) if Fraction(n, part) <= budget / len(rounds)) for n in rounds]
    expected = [max(1, steps // part) for part in parts]
    assert halving(trials, steps, float(budget)) == expected
    assert [half(n) for n in rounds] == left[1:]
    if all(part <= steps for part in parts):
        assert sum(n * each for n, each in zip(rounds, expected, strict=True)) <= budget * steps


def test_ranks_are_by_accuracy_then_loss_then_nearness_to_the_default():
    best_first = [
        Trial(10.0, 8, 0.5, 1.0),
        Trial(0.1, 8, 0.4, 0.9),
        Trial(1.0, 8, 0.4, 1.1),
        Trial(10**0.5, 8, 0.4, 1.1),
        Trial(10**1.5, 8, None, None),
    ]
    record = Record({}, [*best_first[::-1], Trial(1.0, 4, 0.9, 0.1)])
    factors = [trial.factor for trial in best_first]
    assert record.ranked(factors[::-1], 8) == factors
