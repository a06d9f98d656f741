"""Scores against scikit-learn, naive loops and grids."""

import json

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from flax_agnews.metrics import scores


def _labels(seed: int, classes: int = 4, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return labels, np.where(rng.random(n) < 0.7, labels, rng.integers(0, classes, n))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    labels, predictions = _labels(seed)
    assert scores.accuracy(labels, predictions) == pytest.approx(metrics.accuracy_score(labels, predictions))
    np.testing.assert_array_equal(
        scores.confusion(labels, predictions, 4), metrics.confusion_matrix(labels, predictions)
    )
    assert scores.macro_f1(labels, predictions, 4) == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro")
    )


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ([0, 0, 1], [0, 0, 1]),  # classes 2 and 3 neither present nor predicted
        ([0, 0, 2, 2], [0, 0, 0, 0]),  # class 2 present, never predicted
        ([0, 0, 0], [3, 0, 0]),  # class 3 predicted, absent
        ([1], [2]),
        ([1, 2, 3], [1, 2, 3]),  # all right: 1, though class 0 is nowhere
    ],
)
def test_only_classes_that_occur_are_averaged_over_as_in_scikit_learn(
    labels: list[int], predictions: list[int]
) -> None:
    expected = metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert scores.macro_f1(labels, predictions, 4) == pytest.approx(expected)


def test_the_confusion_of_many_classes_is_kept_without_its_zeros() -> None:
    labels, predictions = _labels(0, classes=1000, n=5000)
    record = scores.confusion_record(labels, predictions, 1000)
    expected = metrics.confusion_matrix(labels, predictions, labels=range(1000))
    assert {(i, j): n for i, j, n in scores.confusion_cells(record)} == {
        (i, j): int(expected[i, j]) for i, j in zip(*np.nonzero(expected), strict=True)
    }
    assert len(json.dumps(record)) < 100_000
    expected_f1 = metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert scores.macro_f1(labels, predictions, 1000) == pytest.approx(expected_f1)


def test_the_confusion_of_few_classes_is_kept_whole() -> None:
    labels, predictions = _labels(0)
    record = scores.confusion_record(labels, predictions, 4)
    assert record == metrics.confusion_matrix(labels, predictions).tolist()
    cells = list(scores.confusion_cells([[1, 0], [2, 3]]))
    assert cells == [(0, 0, 1), (1, 0, 2), (1, 1, 3)]


def test_the_spread_over_classes() -> None:
    assert scores.spread([7, 0, 2, 9, 2, 9]) == scores.Spread(2, 3, 2, 9, 29, 1)
    assert scores.spread([3, 2]).uneven is False
    assert scores.spread([4, 2]).uneven is True


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_by_class_are_those_of_scikit_learn(seed: int) -> None:
    labels, predictions = _labels(seed, n=30)
    predictions[predictions == 3] = 0  # a class that is never answered
    ours = scores.by_class(labels, predictions, 4)
    theirs = metrics.precision_recall_fscore_support(labels, predictions, labels=range(4), zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1", "texts")):
        assert [getattr(one, name) for one in ours] == pytest.approx(theirs[place].tolist())


def _logits(seed: int, n: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are twice as large as they should be: their softmax at temperature 2 has drawn the labels."""
    rng = np.random.default_rng(seed)
    logits = 4 * rng.standard_normal((n, classes))
    labels = (special.softmax(logits / 2, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, labels.clip(0, classes - 1)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_calibration_error_is_that_of_a_naive_loop(seed: int, bins: int) -> None:
    logits, labels = _logits(seed)
    p = special.softmax(logits, axis=1)
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i in range(len(p)) if low < max(p[i]) <= high]
        if inside:
            right = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
            confidence = sum(max(p[i]) for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(right - confidence)
    assert scores.calibration_error(p, labels, bins) == pytest.approx(total)
    assert total > 0.01


def test_the_ends_of_bins_belong_to_the_lower_bin() -> None:
    """Half sure and right; sure and wrong: gaps of 1/2 and 1 in different bins."""
    p = [[0.5, 0.5], [1.0, 0.0]]
    assert scores.calibration_error(p, [0, 1], bins=2) == pytest.approx((0.5 + 1) / 2)
    assert scores.calibration_error([[0.5, 0.5], [0.75, 0.25]], [0, 1], bins=2) == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_temperature_is_the_likeliest(seed: int) -> None:
    """Beside a grid; and what drew the labels is found, within the noise of so many."""
    logits, labels = _logits(seed)
    found = scores.temperature(logits, labels)
    grid = np.exp(np.linspace(np.log(0.5), np.log(8), 20001))
    losses = [metrics.log_loss(labels, special.softmax(logits / t, axis=1), labels=range(4)) for t in grid[::100]]
    best = grid[::100][int(np.argmin(losses))]
    assert found == pytest.approx(best, rel=0.02)
    at_found = metrics.log_loss(labels, special.softmax(logits / found, axis=1), labels=range(4))
    assert at_found <= min(losses) + 1e-12
    assert found == pytest.approx(2, rel=0.3)


def test_the_temperature_has_ends() -> None:
    """Nothing but right answers can't be sure enough, nothing but wrong ones not unsure enough."""
    logits = np.array([[0.1, 0.0], [0.0, 0.1]])
    assert scores.temperature(logits, [0, 1]) == pytest.approx(0.01, rel=1e-3)
    assert scores.temperature(logits, [1, 0]) == pytest.approx(100, rel=1e-3)


def test_unsigned_small_ids_do_not_overflow() -> None:
    ids = np.arange(200, dtype=np.uint8)
    np.testing.assert_array_equal(scores.confusion(ids, ids, 200), np.eye(200, dtype=int))


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([0, 1], [0]), ([[0, 1]], [[0, 1]])])
def test_rows_that_are_no_pairs_are_refused(labels: list, predictions: list) -> None:
    with pytest.raises(ValueError, match="equally long"):
        scores.accuracy(labels, predictions)


@pytest.mark.parametrize(("labels", "predictions"), [([0, 4], [0, 0]), ([0, 1], [0, -1])])
def test_ids_outside_the_classes_are_refused(labels: list[int], predictions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        scores.confusion(labels, predictions, 4)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 300.0])
@pytest.mark.parametrize("classes", [2, 5, 600])
def test_probabilities_are_scipys_and_have_the_logits_answer(scale: float, classes: int) -> None:
    """Also where logits differ so little that many round to one probability, or so much that some would be 0."""
    logits = (scale * np.random.default_rng(classes).normal(0, 1, (2000, classes))).astype(np.float32)
    found, exact = scores.probabilities(logits), special.softmax(logits.astype(np.float64), axis=1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(found, exact, rtol=2e-7, atol=np.finfo(np.float32).tiny)  # an ulp, where raised
    assert found.min() > 0
    rounded = exact.astype(np.float32)
    assert (rounded.argmax(axis=1) != logits.argmax(axis=1)).any() == (scale == 1e-9)
