"""Scores' intervals: what they carry and promise, and their coverage of true accuracies and macro-F1."""

import numpy as np
import pytest
from scipy import stats
from support.crossed_effects import equal_strategies, right

from flax_agnews.statistics.intervals import interval
from flax_agnews.statistics.outcomes import Outcomes, accuracy_outcomes, macro_f1_outcomes

EXPERIMENTS = 1000
ERROR = 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)
"""Three standard errors of a simulated share of 5 %."""


@pytest.mark.parametrize(
    ("seeds", "known", "promised"),
    [(None, True, True), ((1,), False, False), ((1, 2), True, False), ((1, 2, 3), True, True)],
)
def test_an_interval_says_whether_it_carries_the_seeds_noise(
    seeds: tuple[int, ...] | None, known: bool, promised: bool
) -> None:
    rows = 1 if seeds is None else len(seeds)
    found = interval(Outcomes(np.random.default_rng(0).random((rows, 20)), seeds, share=False))
    assert (found.n_seeds, found.n_texts) == (None if seeds is None else rows, 20)
    assert (found.seeds_known, found.promised) == (known, promised)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("correct", [0, 96, 100])
def test_where_all_seeds_agree_a_shares_interval_is_nearly_wilsons(correct: int, seeds: int) -> None:
    """Agresti & Coull's interval has Wilson's middle and contains it (1998, section 3)."""
    values = np.repeat(np.repeat([1.0, 0.0], [correct, 100 - correct])[None], seeds, axis=0)
    found = interval(Outcomes(values, tuple(range(seeds)), share=True))
    wilson = stats.binomtest(correct, 100).proportion_ci(method="wilson")
    assert found.mean == correct / 100
    assert found.low == pytest.approx(wilson.low, abs=0.015)
    assert found.high == pytest.approx(wilson.high, abs=0.015)
    assert found.high - found.low > 0.03


def test_equal_losses_have_no_interval() -> None:
    found = interval(Outcomes(np.full((3, 5), 0.7), (1, 2, 3), share=False))
    assert (found.mean, found.low, found.high) == (pytest.approx(0.7), None, None)


@pytest.mark.parametrize("of_seeds", [0.0, 0.3], ids=lambda sd: f"sd {sd}")
@pytest.mark.parametrize("accuracy", [0.9, 0.98])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_true_accuracy(seeds: int, accuracy: float, of_seeds: float) -> None:
    """Right and wrong instead of normal values, of 200 texts: at least 95 %, less two points."""
    rng = np.random.default_rng(seeds)
    drawn = equal_strategies(rng, (EXPERIMENTS, 1, seeds, 200), seeds=of_seeds, texts=0.0)[:, 0]
    values = right(drawn, accuracy, 1 + 2.0**2 + of_seeds**2)
    found = [interval(Outcomes(one, tuple(range(seeds)), share=True)) for one in values]
    covered = np.mean([one.low <= accuracy <= one.high for one in found])
    assert covered >= 0.93 - ERROR


def test_intervals_cover_the_true_macro_f1() -> None:
    """Four classes of uneven sizes and accuracies; a wrong answer is the next class."""
    sizes, accuracies = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.95, 0.9, 0.8, 0.7])
    answered = sizes * accuracies + np.roll(sizes * (1 - accuracies), 1)
    truth = float(np.mean(2 * sizes * accuracies / (sizes + answered)))
    rng, covered = np.random.default_rng(7), []
    drawn = equal_strategies(rng, (EXPERIMENTS, 1, 3, 300), seeds=0.02, texts=0.0)[:, 0]
    labels = rng.choice(4, (EXPERIMENTS, 300), p=sizes)
    for classes, values in zip(labels, drawn, strict=True):
        correct = right(values, accuracies[classes], 1 + 2.0**2 + 0.02**2)
        predictions = np.where(correct > 0, classes, (classes + 1) % 4)
        found = interval(macro_f1_outcomes(classes, predictions, 4, (1, 2, 3)))
        covered.append(found.low <= truth <= found.high)
    assert 0.93 - ERROR <= np.mean(covered) <= 0.98 + ERROR


def test_more_seeds_alone_do_not_make_it_narrow() -> None:
    """A hundred seeds that agree say nothing of other texts."""
    labels = np.zeros(50, np.int64)
    predictions = (np.arange(50) % 10 == 0).astype(np.int64)
    few, many = (
        interval(accuracy_outcomes(labels, np.repeat(predictions[None], n, axis=0), range(n))) for n in (3, 100)
    )
    assert many.high - many.low == pytest.approx(few.high - few.low)
