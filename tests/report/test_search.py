"""The report's section on the search for rates."""

import pytest
from support.report_results import make, page_tables, save

from flax_agnews.errors import UserError
from flax_agnews.report import read_results, write_report

ONE = {
    "factor": 10.0,
    "rates": [5e-4],
    "edge": "highest",
    "trials": [
        {"factor": 10.0, "updates": 4, "val_accuracy": 0.75, "val_loss": 0.5},
        {"factor": 1.0, "updates": 4, "val_accuracy": None, "val_loss": None},
        {"factor": 10.0, "updates": 8, "val_accuracy": 0.875, "val_loss": 0.25},
    ],
    "updates": 16,
    "cost": {"seconds": 90.0},
}


def test_the_page_has_each_factors_scores_and_names_edges(tmp_path):
    save(tmp_path, {**make({"a|b": [0.5]}), "search": {"a|b": ONE}})
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text()
    [table] = [table for table in page_tables(page) if table[0][1] == "factor"]
    assert table[1] == ["a|b", "10", "0.0005", "1: not finite, 10: 0.750 → 0.875", "16", "1 min 30 s"]
    assert "At the edge of what was tried" in page


@pytest.mark.parametrize(
    "search",
    [
        [],
        {"full": []},
        {"full": {**ONE, "rates": ["1"]}},
        {"full": {**ONE, "trials": [3]}},
        {"full": {**ONE, "cost": 1}},
    ],
)
def test_a_broken_search_in_results_is_one_line(tmp_path, search):
    save(tmp_path, {**make({"full": [0.5]}), "search": search})
    with pytest.raises(UserError, match="search"):
        read_results(tmp_path)
