"""Scores of a classifier's answers, against scikit-learn."""

import numpy as np
import pytest
from rich.console import Console
from scipy.special import softmax
from sklearn import metrics
from support.answers import TEST, classifier, logits, run

from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.evaluation import measure, shown_evaluation

__all__ = ["classifier", "logits", "run"]  # fixtures


def test_the_numbers_are_those_of_scikit_learn(classifier: Classifier, logits: np.ndarray) -> None:
    names, labels, answers = classifier.classes, TEST.labels, logits.argmax(axis=1)
    found = measure(names, logits, labels, [])
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
    assert found.low < found.accuracy < found.high
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, answers, average="macro"))
    assert found.loss == pytest.approx(metrics.log_loss(labels, softmax(logits, axis=1), labels=range(4)), rel=1e-5)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, answers, labels=range(4)))
    theirs = metrics.precision_recall_fscore_support(labels, answers, labels=range(4), zero_division=0)
    for place, name in enumerate(names):
        one = found.by_class[name]
        assert [one.precision, one.recall, one.f1, one.texts] == pytest.approx([part[place] for part in theirs])


def test_classes_that_never_occur_are_named_and_count_nothing() -> None:
    """Labels and answers 1 to 4 of five classes, all right: macro-F1 is 1, as scikit-learn has it."""
    labels = np.array([1, 2, 3, 4, 1])
    found = measure(list("abcde"), 5 * np.eye(5)[labels], labels, [])
    assert found.macro_f1 == metrics.f1_score(labels, labels, average="macro") == 1.0
    console = Console(width=120, force_terminal=False)
    with console.capture() as captured:
        console.print(shown_evaluation(found))
    said = captured.get()
    assert "neither labels nor answers have: a" in said
    assert not [line for line in said.splitlines() if line.split()[:2] == ["a", "0"]]


def test_a_temperature_mends_what_is_twice_too_sure() -> None:
    """Labels drawn from the probabilities; logits doubled. The mended error is measured on the other half's texts."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 3))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).clip(0, 2)
    found = measure(["a", "b", "c"], 2 * logits, labels, [])
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.calibration_error > 0.1
    assert found.calibration_error_mended is not None
    assert found.calibration_error_mended < 0.03
