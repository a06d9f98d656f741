"""The report's section on classes: confusion matrices, and class imbalance."""

import numpy as np
import pytest
from support.report_results import HOSTILE, THREE, answer_of, make, page_tables

from flax_agnews.report.page import markdown_page


def test_confusion_matrix_is_the_sum_over_the_best_strategys_seeds() -> None:
    classes = ("World", *(HOSTILE[start : start + 20].strip() for start in range(0, len(HOSTILE), 20)))
    results = make(THREE, classes=classes)
    rows = next(table for table in page_tables(markdown_page(answer_of(results))) if table[0][0] == "true class")
    expected = sum(np.array(run["test_confusion"]) for run in results["runs"] if run["strategy"] == "partial")
    assert rows[0] == ["true class", *classes, "recall"]
    assert [row[0] for row in rows[1:]] == list(classes)
    assert [[int(cell) for cell in row[1:-1]] for row in rows[1:]] == expected.tolist()


def test_many_classes_get_their_worst_confusions() -> None:
    results = make({"full": [0.9]}, classes=tuple(f"class {k}" for k in range(25)))
    table = np.array(results["runs"][0]["test_confusion"])
    np.fill_diagonal(table, 0)
    table[3, 7] = 999
    results["runs"][0]["test_confusion"] = table.tolist()
    rows = next(rows for rows in page_tables(markdown_page(answer_of(results))) if rows[0][0] == "true class")
    assert rows[1] == ["class 3", "class 7", "999"]
    assert [int(row[2]) for row in rows[1:]] == sorted(table.ravel().tolist(), reverse=True)[:10]


def test_a_sparse_confusion_matrix_is_read_as_a_whole_one() -> None:
    results = make({"full": [0.9, 0.8]}, classes=tuple(f"class {k}" for k in range(25)))
    page = markdown_page(answer_of(results))
    for run in results["runs"]:
        table = np.array(run["test_confusion"])
        true, predicted = np.nonzero(table)
        cells = {"true": true, "predicted": predicted, "texts": table[true, predicted]}
        run["test_confusion"] = {name: values.tolist() for name, values in cells.items()}
    assert markdown_page(answer_of(results)) == page


UNEVEN = [2, 600, 0, 30]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_uneven_classes_are_told(class_weights: str) -> None:
    results = make({"full": [0.9]}, classes=("rare *", "common", "absent", "some"))
    assert "uneven" not in markdown_page(answer_of(results))  # of a folder that doesn't say how many there are
    results["settings"] = {"class_weights": class_weights}
    results["data"]["class_texts"] = UNEVEN
    page = markdown_page(answer_of(results))
    assert r"rare \* has 2 (0.3 %), and common has 600 (95 %), 300.0 times as many." in page
    assert "1 class has no training texts, and can't be learned: absent." in page
    assert ("every class weighed the same" in page) == (class_weights == "balanced")
    results["data"]["class_texts"] = [100, 110, 120, 130]
    assert "uneven" not in markdown_page(answer_of(results))
