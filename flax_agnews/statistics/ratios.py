"""Scores that are ratios of counts over some of the texts: precision, recall and F1 of one class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flax_agnews.statistics.outcomes import FloatArray, IntArray, Outcomes

FEWEST_TEXTS = 10
"""Texts in every seed's denominator below which no outcomes are given: the linear form is too rough."""


def class_outcomes(
    labels: IntArray, predictions: IntArray, number: int, seeds: Sequence[int] | None
) -> dict[str, Outcomes | None]:
    """`precision`, `recall` and `f1` of one class as outcomes; None where its texts are too few (`FEWEST_TEXTS`).

    Args:
        labels: [texts] class numbers.
        predictions: [seeds, texts] class numbers.
        number: number of the class.
        seeds: as in `outcomes.accuracy_outcomes`.
    """
    predicted = predictions == number
    actual = np.broadcast_to(labels == number, predicted.shape)
    right = predicted & actual
    numbers = None if seeds is None else tuple(int(seed) for seed in seeds)
    return {
        "precision": _ratio(right, predicted, numbers),
        "recall": _ratio(right, actual, numbers),
        "f1": _ratio(2.0 * right, predicted.astype(np.float64) + actual, numbers),
    }


def _ratio(part: NDArray[Any], whole: NDArray[Any], seeds: tuple[int, ...] | None) -> Outcomes | None:
    """Contributions of texts to a ratio of two sums; a row's mean is the seed's ratio.

    A ratio is no mean over texts, but its value plus each text's influence is, up to terms that vanish faster than the
    noise (as in `outcomes.macro_f1_outcomes`): influence = texts x (part - ratio x whole) / sum of whole. Only texts
    that are in some seed's denominator count as texts: for one seed, precision and recall are then the accuracy on the
    texts with that prediction or label.

    Args:
        part, whole: [seeds, texts], summed in the ratio's numerator and denominator.
        seeds: their numbers; None for a method without randomness.
    """
    if (whole > 0).sum(axis=1).min() < FEWEST_TEXTS:
        return None
    concerned = whole.any(axis=0)
    inner, outer = part[:, concerned].astype(np.float64), whole[:, concerned].astype(np.float64)
    sums = outer.sum(axis=1, keepdims=True)
    ratio: FloatArray = inner.sum(axis=1, keepdims=True) / sums
    return Outcomes(ratio + np.count_nonzero(concerned) * (inner - ratio * outer) / sums, seeds, share=True)
