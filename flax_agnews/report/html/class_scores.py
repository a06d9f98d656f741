"""Precision, recall and F1 of every class, with intervals where predictions are kept."""

from collections.abc import Mapping

import numpy as np

from flax_agnews.report.answer import Answer
from flax_agnews.report.html.content import MOST_CLASSES, ClassScores, Estimate
from flax_agnews.report.html.wrong_answers import cells_of, shown
from flax_agnews.statistics.intervals import interval
from flax_agnews.statistics.outcomes import FloatArray, Outcomes
from flax_agnews.statistics.ratios import class_outcomes

_SCORES = ("precision", "recall", "f1")


def class_scores(answer: Answer) -> list[ClassScores]:
    """Scores of all classes that have test texts; of many classes, only those that the page draws have intervals."""
    count = len(answer.results.data.classes)
    values = {
        name: np.mean([scores_of(*cells, count) for cells in cells_of(answer, name)], 0) for name in shown(answer)
    }
    texts = np.zeros(count, np.int64)
    for true, _, found in cells_of(answer, next(iter(values))):
        np.add.at(texts, true, found)
    occurring = np.flatnonzero(texts)
    mean_f1 = np.mean([one[2] for one in values.values()], axis=0)
    drawn = set(occurring[np.argsort(mean_f1[occurring], kind="stable")][:MOST_CLASSES].tolist())
    return [
        _scores(answer, name, label, values[name][:, label], with_intervals=label in drawn)
        for name in values
        for label in occurring.tolist()
    ]


def scores_of(true: np.ndarray, predicted: np.ndarray, texts: np.ndarray, classes: int) -> FloatArray:
    """Precision, recall and F1 of each class, [3, classes]; a division by zero gives 0, as in scikit-learn.

    Args:
        true, predicted, texts: [cells], cells of a confusion matrix: classes, and number of texts.
        classes: number of classes.
    """
    same = true == predicted
    right, labels, answers = (
        np.bincount(which, weights, classes)
        for which, weights in ((true[same], texts[same]), (true, texts), (predicted, texts))
    )
    parts = ((right, answers), (right, labels), (2 * right, labels + answers))
    return np.stack([part / np.maximum(whole, 1) for part, whole in parts])


def _scores(answer: Answer, name: str, label: int, values: FloatArray, with_intervals: bool) -> ClassScores:
    outcomes: Mapping[str, Outcomes | None] = {}
    if with_intervals and name in answer.evidence.names:
        found = answer.evidence.split(name, "test")
        outcomes = class_outcomes(found.labels, found.classes, label, answer.evidence.seeds(name))
    scores = {score: _estimate(float(value), outcomes.get(score)) for score, value in zip(_SCORES, values, strict=True)}
    return ClassScores(name, label, **scores)


def _estimate(value: float, outcomes: Outcomes | None) -> Estimate:
    if outcomes is None:
        return Estimate(value)
    found = interval(outcomes)
    return Estimate(value, found.low, found.high)
