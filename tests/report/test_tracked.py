"""Tables for trackers without predictions, and with pairs of texts; what trackers get is in test_publication.py."""

import numpy as np
import pytest
from support.report_results import THREE, make, parsed

from flax_agnews.report.answer import answer
from flax_agnews.report.evidence import Evidence
from flax_agnews.report.tracked import answer_table, prediction_table
from flax_agnews.runs.predictions import Predictions, SplitPredictions


def test_runs_of_an_earlier_version_have_means_and_no_intervals():
    columns, rows = answer_table(answer(parsed(make(THREE))))
    named = {row[columns.index("strategy")]: dict(zip(columns, row, strict=True)) for row in rows}
    assert list(named) == sorted(THREE, key=lambda name: -np.mean(THREE[name]))
    for name, scores in THREE.items():
        assert named[name]["accuracy"] == pytest.approx(np.mean(scores))
        assert named[name]["macro_f1"] == pytest.approx(np.mean(scores) - 0.01)
        bounds = [value for column, value in named[name].items() if column.endswith(("_low", "_high"))]
        assert bounds == [None] * 6
        assert named[name]["rank"] is None
        assert named[name]["seeds"] == 3


def test_a_pair_is_two_lines():
    chances = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    split = SplitPredictions("hash", np.array([0, 1], np.int32), chances)
    evidence = Evidence({"full": {7: Predictions(["no", "yes"], {"validation": split, "test": split})}}, {})
    columns, rows = prediction_table(evidence, "full", [("a", "b"), ("c", "d")])
    assert columns == ["strategy", "seed", "text", "label", "predicted", "probability_of_label", "content"]
    assert rows == [["full", 7, 0, "no", "yes", 0.25, "a\nb"], ["full", 7, 1, "yes", "no", 0.5, "c\nd"]]
