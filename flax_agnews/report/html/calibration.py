"""How far the confidence of answers can be believed: bins of confidence, and the expected calibration error."""

import numpy as np

from flax_agnews.metrics.scores import by_confidence, calibration_error
from flax_agnews.report.answer import Answer
from flax_agnews.report.evidence import Answers
from flax_agnews.report.html.content import Bin, Calibration, Estimate
from flax_agnews.report.html.wrong_answers import informed

BINS = 15
"""Number of equally wide bins; a bin includes its upper end, as in `scores.calibration_error`."""


def calibration(answer: Answer) -> list[Calibration]:
    """Of every entry with predictions but the majority class, whose confidence is a constant.

    The error has no interval: it is a sum of absolute values, so that noise alone makes it larger than it is, and an
    interval around it would have its middle in the wrong place.
    """
    return [_calibration(name, answer.evidence.split(name, "test")) for name in informed(answer)]


def _calibration(name: str, found: Answers) -> Calibration:
    probabilities = found.probabilities.reshape(-1, found.probabilities.shape[-1])
    labels = np.tile(found.labels, len(found.probabilities))
    place, confidence, right = by_confidence(probabilities, labels, BINS)
    counts, sums, hits = (np.bincount(place, weights, BINS) for weights in (None, confidence, right))
    bins = [
        Bin(float(sums[number] / count), float(hits[number] / count), int(count))
        for number, count in enumerate(counts)
        if count
    ]
    return Calibration(name, Estimate(calibration_error(probabilities, labels, BINS)), bins)
