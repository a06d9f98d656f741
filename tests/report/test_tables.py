"""The final table and results.csv against the numbers they were given, read back by CSV and Markdown."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.made_predictions import evidence
from support.report_results import HOSTILE, THREE, answer_of, make, page_tables, parsed

from flax_agnews.errors import UserError
from flax_agnews.report import final_table, tables
from flax_agnews.report.answer import answer
from flax_agnews.system.text import NOT_KNOWN


def terminal(results: dict[str, Any], width: int = 140) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(final_table(answer_of(results)))
    return stream.getvalue()


def test_final_table_without_predictions_has_mean_and_sd() -> None:
    results = make(THREE)
    rows = tables.final_rows(answer_of(results))
    assert [row[1] for row in rows] == ["partial", "full", "prompt"]
    for rank, name, accuracy, interval, macro_f1, *_ in rows:
        scores = np.array(THREE[name])
        assert (rank, interval) == (NOT_KNOWN, NOT_KNOWN)
        assert accuracy == f"{scores.mean():.3f} ± {scores.std(ddof=1):.3f}"
        assert macro_f1 == f"{scores.mean() - 0.01:.3f}"
    assert "Test accuracy (mean ± sd of 3 seeds)" in terminal(results)


def test_final_table_has_ranks_with_ties_intervals_and_the_references() -> None:
    scores = {"full": [0.9] * 5, "head": [0.7, 0.71, 0.69, 0.7, 0.72], "lora": [0.9, 0.89, 0.91, 0.9, 0.89]}
    found = answer(parsed(make(scores)), evidence(scores, {"TF-IDF": 0.6, "majority class": 0.5}))
    rows = tables.final_rows(found)
    assert [row[0] for row in rows] == ["1=", "1=", "3", "4", NOT_KNOWN]
    for row, entry in zip(rows, found.entries, strict=True):
        assert row[1:4] == (entry.name, f"{entry.mean:.3f}", f"{entry.accuracy.low:.3f}–{entry.accuracy.high:.3f}")
    assert [cell.strip() for cell in rows[3][5:]] == ["1.2 k", "1.5 s"]
    assert tables.table_title(found) == "Test accuracy of 5 seeds, with 95 % intervals"


def test_final_table_fits_a_terminal_of_80_columns_at_full_size() -> None:
    results = make(THREE)
    for run in results["runs"]:
        run["trainable_parameters"] = run["total_parameters"] = 124_442_880
    rows = tables.final_rows(answer_of(results))
    printed = terminal(results, width=80)
    assert all(cell in printed for row in rows for cell in row)
    assert "trained" in printed
    assert len(printed.strip().splitlines()) == 2 + len(rows)


def test_one_seed_has_no_spread_and_unequal_counts_are_said() -> None:
    single = terminal(make({"full": [0.9]}))
    assert "±" not in single
    assert "Test accuracy (1 seed)" in single
    mixed = make({"full": [0.9, 0.8], "prompt": [0.7]})
    assert "mean ± sd of 1 to 2 seeds" in terminal(mixed)
    assert tables.final_rows(answer_of(mixed))[1][2] == "0.700"


def test_a_cost_that_was_not_measured_is_a_dash() -> None:
    results = make({"full": [0.9]})
    results["runs"][0]["cost"] = {}
    assert tables.final_rows(answer_of(results))[0][-1] == NOT_KNOWN


def test_a_name_is_never_markup() -> None:
    results = make({"[red]x[/red]": [0.9], HOSTILE: [0.8], "two\nlines": [0.7]})
    assert "[red]x[/red]" in terminal(results)
    (table,) = page_tables(tables.markdown_table(answer_of(results)))
    assert [row[1] for row in table[1:]] == ["[red]x[/red]", HOSTILE, "two lines"]


def test_csv_has_a_row_for_every_run_with_its_numbers(tmp_path: Path) -> None:
    results = make({HOSTILE + ',"\n': [0.9, 0.8], "full": [0.7]})
    results["runs"][1]["test_loss"] = results["runs"][1]["cost"]["peak_memory_bytes"] = None
    results["runs"][2]["val_loss"] = [None] * 3
    path = tables.write_csv(parsed(results), tmp_path / "results.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results["runs"])
    for row, run in zip(rows, results["runs"], strict=True):
        assert row["strategy"] == run["strategy"]
        assert float(row["test_accuracy"]) == run["test_accuracy"]
        assert float(row["val_accuracy_last"]) == run["val_accuracy"][-1]
        assert float(row["val_accuracy_best"]) == sorted(run["val_accuracy"])[-1]
        assert float(row["train_loss_best"]) == sorted(run["train_loss"])[0]
        assert float(row["train_seconds"]) == run["cost"]["train_seconds"]
    assert rows[1]["test_loss"] == rows[1]["peak_memory_bytes"] == rows[2]["val_loss_best"] == ""


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    target.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        tables.write_csv(parsed(make(THREE)), target)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
