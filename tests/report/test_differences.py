"""The report's differences from its first strategy, against the statistics' own numbers."""

import pytest
from support.made_predictions import evidence
from support.report_results import answer_of, make, page_tables, parsed

from flax_agnews.report.answer import answer
from flax_agnews.report.page import markdown_page

FIVE = {"full": [0.90, 0.905, 0.895, 0.902, 0.898], "head": [0.88, 0.87, 0.885, 0.875, 0.88]}


def rows_of(found):
    return next(table for table in page_tables(markdown_page(found)) if "points of accuracy" in table[0])


@pytest.mark.parametrize("seeds", [2, 5])
def test_differences_have_intervals_and_p_only_from_five_seeds_on(seeds):
    scores = {name: values[:seeds] for name, values in FIVE.items()}
    found = answer(parsed(make(scores)), evidence(scores, {"TF-IDF": 0.8, "majority class": 0.5}))
    header, *rows = rows_of(found)
    assert ("p" in header) == (seeds == 5)
    assert [row[0] for row in rows] == ["head", "TF-IDF"]
    for name, mean, interval, common, *p in rows:
        pair = found.difference(name, "full")
        assert float(mean) == pytest.approx(100 * pair.mean, abs=0.005)
        assert [float(end) for end in interval.split(" to ")] == pytest.approx(
            [100 * pair.low, 100 * pair.high], abs=0.005
        )
        assert int(common) == seeds
        assert p == ([] if seeds < 5 else ["<0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"])


def test_without_predictions_nothing_is_compared():
    assert "Differences from" not in markdown_page(answer_of(make(FIVE)))
