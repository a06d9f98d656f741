"""Scores of answers: accuracy, F1, confusion, calibration; and sizes of classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

LARGEST_TABLE = 100
"""Classes up to which a confusion matrix is kept whole."""
EVEN = 1.5
"""Times as many texts as the rarest class has, up to which classes are called even: KEEL's data sets of a larger
"imbalance ratio" are its imbalanced ones (Alcalá-Fdez et al. 2011, https://sci2s.ugr.es/keel/imbalanced.php)."""


@dataclass(frozen=True)
class Spread:
    """How texts are spread over classes.

    Attributes:
        rarest, commonest: numbers of the classes with the fewest and the most texts, the first of equals.
        fewest, most: texts of these two; a class without any is not the rarest.
        texts: in all.
        empty: classes without texts.
    """

    rarest: int
    commonest: int
    fewest: int
    most: int
    texts: int
    empty: int

    @property
    def uneven(self) -> bool:
        """Whether the largest class is more than `EVEN` times as large as the smallest."""
        return self.most > EVEN * self.fewest


@dataclass(frozen=True)
class ClassScores:
    """How one class fared; `texts` have it as their label, `answers` as their answer."""

    precision: float
    recall: float
    f1: float
    texts: int
    answers: int

    @property
    def occurs(self) -> bool:
        """Whether a text has it as its label or as its answer."""
        return self.texts + self.answers > 0


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the predictions that equal their labels, 0 to 1. ValueError without any."""
    truth, guess = same_texts(labels, predictions)
    return float(np.mean(truth == guess))


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [classes, classes]: rows are labels, columns predictions. ValueError for other class ids."""
    truth, guess = _ids(labels, predictions, classes)
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def confusion_record(labels: ArrayLike, predictions: ArrayLike, classes: int) -> list[list[int]] | dict[str, list[int]]:
    """The confusion matrix for JSON: its rows; above `LARGEST_TABLE` classes, where nearly all is 0, the other cells.

    These are three lists of equal length: `true` classes, `predicted` ones, and `texts`, the counts.
    """
    if classes <= LARGEST_TABLE:
        return confusion(labels, predictions, classes).tolist()
    truth, guess = _ids(labels, predictions, classes)
    cells, texts = np.unique(truth * classes + guess, return_counts=True)
    return {"true": (cells // classes).tolist(), "predicted": (cells % classes).tolist(), "texts": texts.tolist()}


def confusion_cells(record: Sequence[Sequence[int]] | Mapping[str, Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    """(true class, predicted class, texts) of every cell that isn't 0, of what `confusion_record` gave."""
    if isinstance(record, Mapping):
        yield from zip(record["true"], record["predicted"], record["texts"], strict=True)
        return
    for true, row in enumerate(record):
        yield from ((true, predicted, texts) for predicted, texts in enumerate(row) if texts)


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Unweighted mean F1 of the classes that are present or predicted, as scikit-learn's `average="macro"`."""
    truth, guess = _ids(labels, predictions, classes)
    right, *involved = (np.bincount(ids, minlength=classes) for ids in (truth[truth == guess], truth, guess))
    texts = np.add(*involved)
    return float(np.mean(2 * right[texts > 0] / texts[texts > 0]))


def balanced_weights(labels: NDArray[Any]) -> NDArray[np.float32]:
    """What each text weighs so that all classes weigh the same, and texts 1 on average: [texts].

    n / (classes x texts of its class), as scikit-learn's `balanced` (King & Zeng 2001, "Logistic Regression in Rare
    Events Data"); a class without texts is none.

    Args:
        labels: [texts] class numbers.
    """
    return balanced_class_weights(labels, int(np.max(labels)) + 1)[labels]


def balanced_class_weights(labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """What each class weighs in `balanced_weights`: [classes]; 1, as a text does on average, for one without texts."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 1).astype(np.float32)


def spread(counts: ArrayLike) -> Spread:
    """How texts are spread over classes, from the number of texts of each."""
    texts = np.asarray(counts)
    rarest = int(np.where(texts > 0, texts, texts.max()).argmin())
    commonest = int(texts.argmax())
    empty = int((texts == 0).sum())
    return Spread(rarest, commonest, int(texts[rarest]), int(texts[commonest]), int(texts.sum()), empty)


def by_class(labels: ArrayLike, predictions: ArrayLike, classes: int) -> list[ClassScores]:
    """Scores of each class; what would divide by zero is 0, as in scikit-learn."""
    truth, guess = _ids(labels, predictions, classes)
    right, texts, answers = (np.bincount(ids, minlength=classes) for ids in (truth[truth == guess], truth, guess))
    precision, recall = right / np.maximum(answers, 1), right / np.maximum(texts, 1)
    f1 = 2 * right / np.maximum(texts + answers, 1)
    rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), texts.tolist(), answers.tolist(), strict=True)
    return [ClassScores(*row) for row in rows]


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3).

    Args:
        probabilities: [texts, classes].
        labels: [texts] class ids.
        bins: of equal width, over the probability of the answer; its upper end belongs to a bin.
    """
    p, truth = np.asarray(probabilities, np.float64), np.asarray(labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """What divides the logits so that the labels are likeliest (Guo et al. 2017, section 4.2): 0.01 to 100.

    The negative log-likelihood is convex in the inverse temperature, so that what is found is the best of all.
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        return float((special.logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())

    ends = (np.log(0.01), np.log(100.0))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7}).x))


def same_texts(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays [texts]; ValueError unless they are of the same texts, and of one at least."""
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ValueError(f"two equally long rows of values wanted, not shapes {a.shape} and {b.shape}")
    return a, b


def _ids(labels: ArrayLike, predictions: ArrayLike, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64, checked to be classes."""
    truth, guess = same_texts(labels, predictions)
    for what, ids in (("label", truth), ("prediction", guess)):
        if ids.min() < 0 or ids.max() >= classes:
            raise ValueError(f"a {what} is outside 0..{classes - 1}")
    return truth.astype(np.int64), guess.astype(np.int64)
