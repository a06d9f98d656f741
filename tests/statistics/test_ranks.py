"""Ranks: one more than the number of strategies that are shown to be better."""

import numpy as np

from flax_agnews.statistics.comparisons import Difference, compare_all
from flax_agnews.statistics.outcomes import Outcomes
from flax_agnews.statistics.ranks import ranks


def found(a: str, b: str, mean: float, shown: bool) -> Difference:
    return Difference(a, b, 5, mean, shown=shown)


def test_those_that_cannot_be_told_apart_share_a_rank() -> None:
    differences = [found("a", "b", 0.01, False), found("a", "c", 0.05, True), found("b", "c", 0.04, True)]
    assert ranks("abc", differences) == {"a": 1, "b": 1, "c": 3}


def test_a_chain_whose_ends_only_are_told_apart_has_one_second_place() -> None:
    differences = [found("a", "b", 0.02, False), found("b", "c", 0.02, False), found("a", "c", 0.04, True)]
    assert ranks("abc", differences) == {"a": 1, "b": 1, "c": 2}


def test_a_smaller_loss_is_better() -> None:
    differences = [found("a", "b", -0.3, True)]
    assert ranks("ab", differences, larger_is_better=False) == {"a": 1, "b": 2}
    assert ranks("ab", differences) == {"a": 2, "b": 1}


def test_below_five_seeds_all_are_first() -> None:
    rng = np.random.default_rng(0)
    for seeds, expected in ((4, {"a": 1, "b": 1}), (6, {"a": 1, "b": 2})):
        values = {name: level + rng.normal(0, 0.01, (seeds, 50)) for name, level in (("a", 0.9), ("b", 0.1))}
        outcomes = {name: Outcomes(one, tuple(range(seeds)), share=True) for name, one in values.items()}
        assert ranks(outcomes, compare_all(outcomes)) == expected
