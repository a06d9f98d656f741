"""Per-text outcomes of one strategy over seeds: right or wrong, loss, or contribution to macro-F1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Outcomes:
    """Outcome of every seed's model on every text; a seed's score is the mean of its row.

    Attributes:
        values: [seeds, texts]; [1, texts] for a method that has no seeds.
        seeds: numbers of the seeds, one a row; None for a method without randomness, whose outcomes are the same for
            every seed (TF-IDF, the majority class). Rows of equal seeds are compared with each other.
        share: whether the score is a share, 0 to 1, as accuracy and F1 are; a loss is not.
    """

    values: FloatArray
    seeds: tuple[int, ...] | None
    share: bool

    def __post_init__(self) -> None:
        rows = 1 if self.seeds is None else len(self.seeds)
        if self.values.ndim != 2 or len(self.values) != rows or not rows or self.values.shape[1] < 2:
            raise ValueError(f"outcomes of {rows} seeds on 2 or more texts wanted, not shape {self.values.shape}")
        if self.seeds is not None and len(set(self.seeds)) != rows:
            raise ValueError(f"a seed stands twice among {self.seeds}")
        if not np.isfinite(self.values).all():
            raise ValueError("an outcome is not a finite number")

    def of(self, seeds: Sequence[int]) -> FloatArray:
        """Rows of these seeds, [seeds, texts]; a method without seeds has the same row for each."""
        if self.seeds is None:
            return np.broadcast_to(self.values, (len(seeds), self.values.shape[1]))
        return self.values[[self.seeds.index(seed) for seed in seeds]]


def accuracy_outcomes(labels: IntArray, predictions: IntArray, seeds: Sequence[int] | None) -> Outcomes:
    """1 where a prediction is right and 0 where it is wrong; the mean is the accuracy.

    Args:
        labels: [texts] class numbers.
        predictions: [seeds, texts] class numbers.
        seeds: number of each row's seed; None for one row of a method without randomness.
    """
    return Outcomes((predictions == labels).astype(np.float64), _numbers(seeds), share=True)


def loss_outcomes(labels: IntArray, probabilities: NDArray[np.floating[Any]], seeds: Sequence[int] | None) -> Outcomes:
    """Cross-entropy of each text in nats.

    Args:
        labels: [texts] class numbers.
        probabilities: [seeds, texts, classes]; zeros count as the smallest normal float32, since softmax in float32
            rounds to zero what is not impossible.
        seeds: as in `accuracy_outcomes`.
    """
    of_label = np.take_along_axis(probabilities, labels[None, :, None].astype(np.int64), axis=2)[..., 0]
    losses = -np.log(np.maximum(of_label.astype(np.float64), np.finfo(np.float32).tiny))
    return Outcomes(losses, _numbers(seeds), share=False)


def macro_f1_outcomes(labels: IntArray, predictions: IntArray, classes: int, seeds: Sequence[int] | None) -> Outcomes:
    """Contributions of the texts to macro-F1; a row's mean is the seed's macro-F1 as in `scores.macro_f1`.

    F1 is no mean over texts. Its value plus each text's influence (the derivative by the text's weight; the
    infinitesimal jackknife: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 21 and 22) is one
    up to terms that vanish faster than the noise, so that everything for means serves for F1.

    Args:
        labels, predictions, seeds: as in `accuracy_outcomes`.
        classes: number of classes.
    """
    values = np.stack([_f1_contributions(labels, row, classes) for row in predictions])
    return Outcomes(values, _numbers(seeds), share=True)


def _f1_contributions(labels: IntArray, predictions: IntArray, classes: int) -> FloatArray:
    """Macro-F1 plus influence of each text.

    F1 of class c is 2 R / N with R = right texts and N = labels + predictions. A text adds 2 to the numerator if it
    is right and of the class, and to N the number of times (0, 1, 2) that its label and prediction are c:
    influence = texts x (2 right - F1 x times) / N.
    """
    right = labels == predictions
    found = np.bincount(labels[right], minlength=classes)
    texts = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    occurs = texts > 0
    f1 = np.divide(2.0 * found, texts, where=occurs, out=np.zeros(classes))
    one = np.divide(1.0, texts, where=occurs, out=np.zeros(classes))
    influence = 2.0 * right * one[labels] - (f1 * one)[labels] - (f1 * one)[predictions]
    return (f1.sum() + len(labels) * influence) / np.count_nonzero(occurs)


def _numbers(seeds: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if seeds is None else tuple(int(seed) for seed in seeds)
