"""Scores of predictions: accuracy, F1, confusion matrix, calibration; and class imbalance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST_TABLE = 100
"""Largest number of classes for which a confusion matrix is stored with all its cells."""
EVEN = 1.5
"""Classes count as balanced where the largest has at most this many times the texts of the smallest: KEEL's data sets
of a larger "imbalance ratio" are its imbalanced ones (Alcalá-Fdez et al. 2011, https://sci2s.ugr.es/keel/imbalanced.php)."""


@dataclass(frozen=True)
class Spread:
    """Sizes of the classes: number of texts in the smallest, the largest, and all.

    Attributes:
        rarest, commonest: class numbers of the smallest and the largest class; of equal ones, the first. Classes
            without texts don't count as the smallest.
        fewest, most: number of texts in these two classes.
        texts: number of texts in all classes.
        empty: number of classes without texts.
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
    """Scores of one class; `texts` have it as their label, `answers` as their predicted class."""

    precision: float
    recall: float
    f1: float
    texts: int
    answers: int

    @property
    def occurs(self) -> bool:
        """Whether any text has the class as its label or its prediction."""
        return self.texts + self.answers > 0


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of predictions that equal their labels, 0 to 1. ValueError for no texts."""
    truth, guess = same_texts(labels, predictions)
    return float(np.mean(truth == guess))


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Confusion matrix, counts [classes, classes]: rows are labels, columns predictions. ValueError for invalid ids."""
    truth, guess = _ids(labels, predictions, classes)
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def confusion_record(labels: ArrayLike, predictions: ArrayLike, classes: int) -> list[list[int]] | dict[str, list[int]]:
    """The confusion matrix for JSON: its rows; above `LARGEST_TABLE` classes, only the cells that aren't 0.

    These cells are three lists of equal length: `true` classes, `predicted` ones, and `texts`, the counts.
    """
    if classes <= LARGEST_TABLE:
        return confusion(labels, predictions, classes).tolist()
    truth, guess = _ids(labels, predictions, classes)
    cells, texts = np.unique(truth * classes + guess, return_counts=True)
    return {"true": (cells // classes).tolist(), "predicted": (cells % classes).tolist(), "texts": texts.tolist()}


def confusion_cells(record: Sequence[Sequence[int]] | Mapping[str, Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    """Iterates over the nonzero cells of a `confusion_record`: (true class, predicted class, number of texts)."""
    if isinstance(record, Mapping):
        yield from zip(record["true"], record["predicted"], record["texts"], strict=True)
        return
    for true, row in enumerate(record):
        yield from ((true, predicted, texts) for predicted, texts in enumerate(row) if texts)


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Unweighted mean F1 of the classes that occur as label or prediction, as scikit-learn's `average="macro"`."""
    truth, guess = _ids(labels, predictions, classes)
    right, *involved = (np.bincount(ids, minlength=classes) for ids in (truth[truth == guess], truth, guess))
    texts = np.add(*involved)
    return float(np.mean(2 * right[texts > 0] / texts[texts > 0]))


def balanced_weights(labels: NDArray[Any]) -> NDArray[np.float32]:
    """Loss weights of the texts, [texts], that give all classes the same total weight; their mean is 1.

    n / (classes x texts of its class), as scikit-learn's `balanced` (King & Zeng 2001, "Logistic Regression in Rare
    Events Data"); classes without texts aren't counted.

    Args:
        labels: [texts] class numbers.
    """
    return balanced_class_weights(labels, int(np.max(labels)) + 1)[labels]


def balanced_class_weights(labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Loss weights of the classes, [classes], as in `balanced_weights`; 1 for a class without texts."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 1).astype(np.float32)


def spread(counts: ArrayLike) -> Spread:
    """Sizes of the classes, from the number of texts in each."""
    texts = np.asarray(counts)
    rarest = int(np.where(texts > 0, texts, texts.max()).argmin())
    commonest = int(texts.argmax())
    empty = int((texts == 0).sum())
    return Spread(rarest, commonest, int(texts[rarest]), int(texts[commonest]), int(texts.sum()), empty)


def by_class(labels: ArrayLike, predictions: ArrayLike, classes: int) -> list[ClassScores]:
    """Precision, recall and F1 of each class; a division by zero gives 0, as in scikit-learn."""
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
        bins: number of equally wide bins of the predicted class's probability; a bin includes its upper end.
    """
    place, confidence, right = by_confidence(probabilities, labels, bins)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def by_confidence(
    probabilities: ArrayLike, labels: ArrayLike, bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Each text's bin, from 0, its predicted class's probability, and whether that is right; as `calibration_error`."""
    p = np.asarray(probabilities, np.float64)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1), confidence, right


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities [texts, classes] of logits, in float64."""
    scores = np.asarray(logits, np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def probabilities(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities [texts, classes] of logits, in float32; their largest is where the logits' largest is.

    Computed in float64. None is below float32's smallest normal number, so that no label has an infinite loss.
    """
    found, smallest = np.empty(logits.shape, np.float32), np.finfo(np.float32).tiny
    some = max(1, 10**6 // logits.shape[1])  # with thousands of classes, all texts take gigabytes in float64
    for start in range(0, len(logits), some):
        found[start : start + some] = np.maximum(softmax(logits[start : start + some]), smallest)
    answers = logits.argmax(axis=1)
    # Logits that hardly differ have equal probabilities in float32, the first of which would be the answer.
    tied = np.flatnonzero(found.argmax(axis=1) != answers)
    found[tied, answers[tied]] = np.nextafter(found[tied].max(axis=1), np.float32(1))
    return found


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Temperature, 0.01 to 100, that calibrates logits: maximises the labels' likelihood (Guo et al. 2017, 4.2).

    The negative log-likelihood is convex in the inverse temperature, so that the minimum found is the global one.
    """
    from scipy import optimize, special  # slow to import, and most processes never need it

    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        return float((special.logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())

    ends = (np.log(0.01), np.log(100.0))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7}).x))


def same_texts(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Converts both to arrays [texts]. ValueError unless they are equally long and not empty."""
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ValueError(f"two equally long rows of values wanted, not shapes {a.shape} and {b.shape}")
    return a, b


def _ids(labels: ArrayLike, predictions: ArrayLike, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Converts both to int64 arrays [texts]. ValueError unless all are class numbers."""
    truth, guess = same_texts(labels, predictions)
    for what, ids in (("label", truth), ("prediction", guess)):
        if ids.min() < 0 or ids.max() >= classes:
            raise ValueError(f"a {what} is outside 0..{classes - 1}")
    return truth.astype(np.int64), guess.astype(np.int64)
