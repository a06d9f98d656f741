"""Bins of confidence against a loop over all answers."""

from pathlib import Path

import pytest
from support.page_folders import answer_of, output_folder

from flax_agnews.report.html.calibration import calibration


def test_bins_and_error_are_those_of_a_loop_over_all_answers(tmp_path: Path) -> None:
    answer = answer_of(output_folder(tmp_path, {"full": 2.5, "head": 1.2}))
    found = {one.strategy: one for one in calibration(answer)}
    assert set(found) == {"full", "head", "TF-IDF"}
    for name, one in found.items():
        answers = answer.evidence.split(name, "test")
        bins: dict[int, list[tuple[float, bool]]] = {}
        for seed in answers.probabilities:
            for chances, label in zip(seed.tolist(), answers.labels, strict=True):
                confidence = max(chances)
                place = next(k for k in range(15) if confidence <= (k + 1) / 15)
                bins.setdefault(place, []).append((confidence, chances.index(confidence) == label))
        total = sum(map(len, bins.values()))
        error = 0.0
        for place, drawn in zip(sorted(bins), one.bins, strict=True):
            confidence, right = (sum(column) / len(bins[place]) for column in zip(*bins[place], strict=True))
            assert (drawn.confidence, drawn.accuracy) == pytest.approx((confidence, right))
            assert drawn.count == len(bins[place])
            error += len(bins[place]) / total * abs(right - confidence)
        assert one.error.value == pytest.approx(error)
        assert one.error.low is None  # the error's noise isn't around it
