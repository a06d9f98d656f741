"""Precision, recall and F1 of a class as outcomes: against scikit-learn, numerical derivatives and simulation."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from flax_agnews.statistics.intervals import interval
from flax_agnews.statistics.outcomes import accuracy_outcomes
from flax_agnews.statistics.ratios import FEWEST_TEXTS, class_outcomes

SCORES = ("precision", "recall", "f1")
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 4, 400)
PREDICTIONS = np.where(RNG.random((3, 400)) < 0.7, LABELS, RNG.integers(0, 4, (3, 400)))


def sklearn_scores(labels: np.ndarray, predictions: np.ndarray, number: int, weights: np.ndarray | None = None):
    found = precision_recall_fscore_support(labels, predictions, labels=[number], sample_weight=weights)
    return dict(zip(SCORES, (values[0] for values in found[:3]), strict=True))


@pytest.mark.parametrize("number", range(4))
def test_a_rows_mean_is_the_seeds_score(number: int) -> None:
    found = class_outcomes(LABELS, PREDICTIONS, number, [42, 43, 44])
    for row, predictions in enumerate(PREDICTIONS):
        expected = sklearn_scores(LABELS, predictions, number)
        for score in SCORES:
            assert found[score].values[row].mean() == pytest.approx(expected[score])
            assert found[score].seeds == (42, 43, 44)


def test_deviations_are_the_derivatives_by_the_texts_weights() -> None:
    found = class_outcomes(LABELS, PREDICTIONS, 1, range(3))
    step = 1e-5
    for score, ids in (("precision", (PREDICTIONS == 1).any(0)), ("recall", LABELS == 1),
                       ("f1", (PREDICTIONS == 1).any(0) | (LABELS == 1))):  # fmt: skip
        concerned = np.flatnonzero(ids)
        outcomes = found[score]
        assert outcomes.values.shape == (3, len(concerned))
        for place in range(0, len(concerned), 17):
            weights = np.ones(len(LABELS))
            weights[concerned[place]] += step
            for row, predictions in enumerate(PREDICTIONS):
                before = sklearn_scores(LABELS, predictions, 1)[score]
                derivative = (sklearn_scores(LABELS, predictions, 1, weights)[score] - before) / step
                assert outcomes.values[row, place] - before == pytest.approx(len(concerned) * derivative, abs=1e-3)


def test_one_seeds_precision_and_recall_have_the_interval_of_an_accuracy() -> None:
    labels, predictions = LABELS, PREDICTIONS[:1]
    found = class_outcomes(labels, predictions, 2, [42])
    for score, which in (("precision", predictions[0] == 2), ("recall", labels == 2)):
        alone, whole = interval(accuracy_outcomes(labels[which], predictions[:, which], [42])), interval(found[score])
        assert (whole.mean, whole.low, whole.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_too_few_texts_have_no_outcomes() -> None:
    labels = np.array([0] * 50 + [1] * FEWEST_TEXTS)
    enough = np.array([labels])
    assert all(class_outcomes(labels, enough, 1, None).values())
    fewer = np.array([labels, np.where(np.arange(60) == 50, 0, labels)])  # the second seed answers 1 once less
    found = class_outcomes(labels, fewer, 1, [1, 2])
    assert [score for score in SCORES if found[score]] == ["recall", "f1"]
    assert not any(class_outcomes(labels, enough, 2, None).values())  # a class that nothing has


@pytest.mark.parametrize("seeds", [1, 5])
def test_intervals_cover_the_truth(seeds: int) -> None:
    """A rare class among 400 texts; the truth is that of very many texts."""
    rng = np.random.default_rng(seeds)

    def experiment(texts: int, of: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(3, texts, p=[0.15, 0.45, 0.4])
        hard, confused = rng.normal(0, 1, texts), rng.integers(1, 3, texts)
        wrong = hard + rng.normal(0, 0.6, (of, texts)) > 1.4 + rng.normal(0, 0.1 * (of > 1), (of, 1))
        return labels, np.where(wrong, (labels + confused) % 3, labels)

    labels, predictions = experiment(40_000, 50 if seeds > 1 else 1)
    truth = {s: np.mean([sklearn_scores(labels, p, 0)[s] for p in predictions]) for s in SCORES}
    inside = []
    for _ in range(400):
        found = class_outcomes(*experiment(400, seeds), 0, range(seeds))
        ends = {score: interval(found[score]) for score in SCORES}
        inside.append([ends[score].low <= truth[score] <= ends[score].high for score in SCORES])
    shares = np.mean(inside, axis=0)
    assert (shares > 0.92).all()
    assert (shares < 0.995).all()
