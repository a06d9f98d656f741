"""Per-text outcomes against scikit-learn's scores, a delete-one jackknife and SciPy's bootstrap."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss

from flax_agnews.statistics import outcomes

CLASSES = 4


def answers(texts: int, seeds: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of classes of uneven sizes, and predictions [seeds, texts] of which about a quarter are wrong."""
    rng = np.random.default_rng(texts)
    labels = rng.choice(CLASSES, texts, p=[0.4, 0.3, 0.2, 0.1])
    wrong = rng.random((seeds, texts)) < 0.25
    return labels, np.where(wrong, rng.integers(0, CLASSES, (seeds, texts)), labels)


def test_rows_have_scikit_learns_accuracy_macro_f1_and_log_loss_as_their_means() -> None:
    labels, predictions = answers(200)
    probabilities = np.random.default_rng(1).dirichlet(np.ones(CLASSES), (3, 200)).astype(np.float32)
    seeds = (3, 1, 2)
    accuracy = outcomes.accuracy_outcomes(labels, predictions, seeds)
    f1 = outcomes.macro_f1_outcomes(labels, predictions, CLASSES, seeds)
    loss = outcomes.loss_outcomes(labels, probabilities, seeds)
    for row in range(3):
        assert accuracy.values[row].mean() == pytest.approx(accuracy_score(labels, predictions[row]))
        assert f1.values[row].mean() == pytest.approx(f1_score(labels, predictions[row], average="macro"))
        exact = probabilities[row].astype(np.float64)
        expected = log_loss(labels, exact / exact.sum(axis=1, keepdims=True))
        assert loss.values[row].mean() == pytest.approx(expected, rel=1e-5)  # float32's rows sum to 1 only nearly
    assert (accuracy.share, f1.share, loss.share) == (True, True, False)


def test_macro_f1_leaves_out_classes_that_do_not_occur() -> None:
    labels, predictions = np.array([0, 0, 2, 2]), np.array([[0, 2, 2, 2]])
    values = outcomes.macro_f1_outcomes(labels, predictions, CLASSES, None).values
    assert values.mean() == pytest.approx(f1_score(labels, predictions[0], average="macro"))


def test_contributions_to_macro_f1_are_those_of_a_jackknife() -> None:
    """Pseudo-values T x F - (T - 1) x F without the text; the two differ by terms of order 1 / T."""
    labels, predictions = answers(400, seeds=1)
    whole = f1_score(labels, predictions[0], average="macro")
    others = [np.arange(400) != text for text in range(400)]
    without = [f1_score(labels[keep], predictions[0][keep], average="macro") for keep in others]
    pseudo = 400 * whole - 399 * np.asarray(without)
    values = outcomes.macro_f1_outcomes(labels, predictions, CLASSES, None).values[0]
    assert np.ptp(pseudo) > 1
    np.testing.assert_allclose(values, pseudo, atol=0.05)


def test_contributions_spread_like_a_bootstrap_of_macro_f1() -> None:
    labels, predictions = answers(1000, seeds=1)
    values = outcomes.macro_f1_outcomes(labels, predictions, CLASSES, None).values[0]

    def score(rows: NDArray[np.int64]) -> float:
        return f1_of(labels[rows], predictions[0][rows])

    drawn = stats.bootstrap(
        (np.arange(1000),), score, n_resamples=2000, vectorized=False, method="percentile", rng=np.random.default_rng(0)
    )
    # 2,000 resamples have a standard error of 1 / sqrt(4000) = 1.6 %, of which this is three.
    assert values.std(ddof=1) / np.sqrt(1000) == pytest.approx(drawn.standard_error, rel=0.05)


def f1_of(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Macro-F1 by its definition; scikit-learn's takes a millisecond, a thousand times."""
    scores = []
    for number in range(CLASSES):
        true, found = labels == number, predictions == number
        scores.append(2 * (true & found).sum() / (true.sum() + found.sum()))
    return float(np.mean(scores))


def test_a_probability_of_zero_is_a_finite_loss() -> None:
    loss = outcomes.loss_outcomes(np.array([0, 1]), np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32), None)
    assert loss.values[0, 0] == pytest.approx(126 * np.log(2))  # 2^-126 is float32's smallest normal number
    assert loss.values[0, 1] == 0


def test_rows_are_found_by_seed_and_a_method_without_seeds_has_one_row_for_all() -> None:
    some = outcomes.Outcomes(np.array([[1.0, 2.0], [3.0, 4.0]]), (7, 5), share=False)
    assert some.of([5, 7]).tolist() == [[3.0, 4.0], [1.0, 2.0]]
    fixed = outcomes.Outcomes(np.array([[1.0, 2.0]]), None, share=False)
    assert fixed.of([5, 7]).tolist() == [[1.0, 2.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("values", "seeds"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], None),
        ([[1.0, 0.0]], (1, 2)),
        ([[1.0, 0.0], [1.0, 0.0]], (1, 1)),
        ([[1.0]], (1,)),
        ([[1.0, np.nan]], (1,)),
        (np.empty((0, 3)), ()),
    ],
)
def test_rows_that_are_no_outcomes_are_refused(values: list[list[float]], seeds: tuple[int, ...] | None) -> None:
    with pytest.raises(ValueError, match=r"outcome|seed"):
        outcomes.Outcomes(np.asarray(values), seeds, share=False)
