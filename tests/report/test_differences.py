"""The report's paired differences between strategies, against SciPy."""

import numpy as np
import pytest
from scipy import stats
from support.report_results import THREE, make, page_tables, parsed

from flax_agnews.report.page import markdown_page


def test_page_has_the_differences_of_scipys_paired_test() -> None:
    rows = next(table for table in page_tables(markdown_page(parsed(make(THREE)))) if "95 % interval" in table[0])
    assert [row[0] for row in rows[1:]] == ["full", "prompt"]
    for name, mean, interval, p, seeds in rows[1:]:
        test = stats.ttest_rel(THREE[name], THREE["partial"])
        low, high = test.confidence_interval(0.95)
        assert float(mean) == pytest.approx(100 * np.mean(np.subtract(THREE[name], THREE["partial"])), abs=0.005)
        assert [float(end) for end in interval.split(" to ")] == pytest.approx([100 * low, 100 * high], abs=0.005)
        assert p == ("<0.001" if test.pvalue < 0.001 else f"{test.pvalue:.3f}")
        assert int(seeds) == 3


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 seed says nothing"), (2, "2 seeds say little")])
def test_few_seeds_are_called_few(seeds: int, words: str) -> None:
    page = markdown_page(parsed(make({"full": [0.9, 0.92][:seeds], "prompt": [0.8, 0.83][:seeds]})))
    assert words in page
    assert ("p of the paired t-test" in page) == (seeds > 1)


def test_enough_seeds_are_not_called_few() -> None:
    scores = [0.90, 0.91, 0.92, 0.93, 0.94]
    page = markdown_page(parsed(make({"full": scores, "prompt": [score**2 for score in scores]})))
    assert "say little" not in page


def test_equal_differences_give_no_interval_and_say_so() -> None:
    page = markdown_page(parsed(make({"full": [0.9, 0.8], "prompt": [0.8, 0.7]})))
    assert "every seed gave the same difference" in page
    rows = next(table for table in page_tables(page) if "95 % interval" in table[0])
    assert rows[1][1:4] == ["-10.00", "–", "–"]
