"""The report's page, files and command against the numbers they were given, read back as Markdown."""

import ast
import copy
import csv
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats
from support.report_results import HOSTILE, THREE, ended_early, make, page_tables, parsed, save

import flax_agnews.report
from flax_agnews.errors import UserError
from flax_agnews.report import plots, read_results, write_report
from flax_agnews.report.__main__ import main
from flax_agnews.report.page import markdown_page


def test_a_report_is_three_files_and_nothing_else(tmp_path: Path) -> None:
    paths = write_report(save(tmp_path, make(THREE)))
    assert [path.name for path in paths] == ["results.csv", "accuracy_curves.png", "report.md"]
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in paths), "results.json"}
    assert imread(tmp_path / "accuracy_curves.png").shape[1] == 1200


# The page


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


def test_confusion_matrix_is_the_sum_over_the_best_strategys_seeds() -> None:
    classes = ("World", *(HOSTILE[start : start + 20].strip() for start in range(0, len(HOSTILE), 20)))
    results = make(THREE, classes=classes)
    rows = next(table for table in page_tables(markdown_page(parsed(results))) if table[0][0] == "true class")
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
    rows = next(rows for rows in page_tables(markdown_page(parsed(results))) if rows[0][0] == "true class")
    assert rows[1] == ["class 3", "class 7", "999"]
    assert [int(row[2]) for row in rows[1:]] == sorted(table.ravel().tolist(), reverse=True)[:10]


def test_a_sparse_confusion_matrix_is_read_as_a_whole_one() -> None:
    results = make({"full": [0.9, 0.8]}, classes=tuple(f"class {k}" for k in range(25)))
    page = markdown_page(parsed(results))
    for run in results["runs"]:
        table = np.array(run["test_confusion"])
        true, predicted = np.nonzero(table)
        cells = {"true": true, "predicted": predicted, "texts": table[true, predicted]}
        run["test_confusion"] = {name: values.tolist() for name, values in cells.items()}
    assert markdown_page(parsed(results)) == page


UNEVEN = [2, 600, 0, 30]


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_class_imbalance_is_reported(class_weights: str) -> None:
    results = make({"full": [0.9]}, classes=("rare *", "common", "absent", "some"))
    assert "uneven" not in markdown_page(parsed(results))  # of a folder that doesn't say how many there are
    results["settings"] = {"class_weights": class_weights}
    results["data"]["class_texts"] = UNEVEN
    page = markdown_page(parsed(results))
    assert r"rare \* has 2 (0.3 %), and common has 600 (95 %), 300.0 times as many." in page
    assert "1 class has no training texts, and can't be learned: absent." in page
    assert ("every class weighed the same" in page) == (class_weights == "balanced")
    results["data"]["class_texts"] = [100, 110, 120, 130]
    assert "uneven" not in markdown_page(parsed(results))


def test_how_the_data_were_read_is_said() -> None:
    results = make({"full": [0.9]})
    assert "How it was read" not in markdown_page(parsed(results))  # of a folder that doesn't say
    results["data"]["notes"] = ["labels are class names", "3 rows of *train* without label left out"]
    page = markdown_page(parsed(results))
    assert r"- How it was read: labels are class names; 3 rows of \*train\* without label left out." in page


def test_random_weights_and_idle_runs_are_called_so() -> None:
    results = make({"full": [0.9, 0.26], "prompt": [0.5, 0.27]})
    page = markdown_page(parsed(results))
    assert "Random weights" not in page
    assert "full seed 43." in page.split("No better than the majority class")[1].splitlines()[0]
    results["model"]["name"] = "random GPT-2 3 x 128"
    results["data"]["majority_accuracy"] = 0.2
    page = markdown_page(parsed(results))
    assert "say nothing about GPT-2" in page
    assert "majority class**" not in page


def test_runs_that_stopped_and_updates_that_were_skipped_are_named() -> None:
    results = make(THREE)
    assert "not finite" not in markdown_page(parsed(results))
    results["diverged"] = ["prompt seed 45 at step 7 (loss)", f"{HOSTILE} seed 1 at step 2 (loss)"]
    results["runs"][1]["skipped_updates"] = 1234
    results["runs"][2]["skipped_updates"] = 0
    page = markdown_page(parsed(results))
    stopped, skipped = (line for line in page.splitlines() if "not finite**" in line)
    assert "prompt seed 45 at step 7" in stopped
    assert HOSTILE not in stopped
    assert "full seed 43 (1,234)." in skipped
    assert "full seed 44" not in skipped


def test_runs_that_ended_early_have_their_own_epochs(tmp_path: Path) -> None:
    results = ended_early(make({"full": [0.9, 0.92, 0.95], "head": [0.5, 0.4, 0.3]}, epochs=5), [2, 5, 3, 5, 5, 5])
    page = markdown_page(parsed(results))
    rows = {name: ran for name, _, ran in next(t for t in page_tables(page) if "epochs run" in t[0])[1:]}
    assert rows == {"full": "2, 5, 3", "head": "5"}
    assert "2 of 6 runs ended early" in page
    assert "counts in later epochs with its last" in page
    with write_report(save(tmp_path, results))[0].open(newline="") as file:
        assert [row["epochs"] for row in csv.DictReader(file)] == ["2", "5", "3", "5", "5", "5"]
    whole = markdown_page(parsed(make(THREE)))
    assert "ended early" not in whole
    assert "counts in later epochs" not in whole


def test_page_says_how_to_run_it_again_and_with_what() -> None:
    results = make(THREE)
    results["pretrain"] = {"epochs": 1, "loss": [4.9, None, 3.7]}
    page = markdown_page(parsed(results))
    assert "python -m flax_agnews.main --config config.yaml" in page
    assert "1 epoch of language modelling" in page
    assert "loss 4.90 → 3.70" in page
    cells = {row[0]: row[1] for table in page_tables(page) for row in table}
    assert (cells["train.epochs"], cells["jax"]) == ("3", "0.10.2")


# What is refused


def _without(*path: str | int) -> Any:
    broken = make(THREE)
    section: Any = broken
    for key in path[:-1]:
        section = section[key]
    del section[path[-1]]
    return broken


def _with(value: Any, *path: str | int) -> Any:
    broken = make(THREE)
    section: Any = broken
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return broken


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ([], "no JSON object"),
        (_with(2, "schema"), "schema 2"),
        (_without("data"), "lacks data"),
        (_without("data", "classes"), "data.classes"),
        (_with({"epochs": 1}, "pretrain"), "pretrain.loss"),
        (_with([], "runs"), "no finished runs"),
        (_without("runs", 1, "test_accuracy"), r"runs\[1\].test_accuracy"),
        (_with(float("nan"), "runs", 1, "test_accuracy"), r"runs\[1\].test_accuracy"),
        (_with(True, "runs", 0, "seed"), r"runs\[0\].seed"),
        (_with([], "runs", 0, "val_accuracy"), r"runs\[0\].*epochs"),
        (_with([0.5], "runs", 0, "train_loss"), r"runs\[0\].train_loss has 1 epoch,"),
        (_with([None] * 3, "runs", 0, "val_accuracy"), r"runs\[0\].val_accuracy"),
        (_with([[1]], "runs", 2, "test_confusion"), r"runs\[2\].test_confusion"),
        (_with({"true": [0], "predicted": [2], "texts": [9]}, "runs", 2, "test_confusion"), "no table of 2 x 2"),
        (_with({"true": [0], "predicted": [1]}, "runs", 2, "test_confusion"), "no table of 2 x 2"),
        (_with([1, 2, 3], "data", "class_texts"), "class_texts is no list of 2"),
        (_with("no", "runs", 0, "stopped_early"), r"runs\[0\].stopped_early"),
        (_with(43, "runs", 0, "seed"), "two runs of full with seed 43"),
    ],
)
def test_broken_results_are_one_line(tmp_path: Path, broken: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        write_report(save(tmp_path, broken))
    assert str(tmp_path / "results.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(UserError, match="not valid JSON") as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_diverged_loss_is_no_reason_to_refuse(tmp_path: Path) -> None:
    results = make(THREE)
    results["runs"][0]["test_loss"] = results["runs"][0]["val_loss"][2] = float("nan")
    write_report(save(tmp_path, results))
    assert "nan" not in (tmp_path / "results.csv").read_text(encoding="utf-8")


# The command, and the floor


def test_command_rewrites_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, make(THREE))
    (tmp_path / "report.md").write_text("old", encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert "report.md" in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == markdown_page(parsed(make(THREE)))


def test_command_says_an_error_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flax_agnews.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_report_imports_neither_jax_nor_training_nor_pyplot() -> None:
    sources = list(Path(flax_agnews.report.__file__).parent.glob("*.py"))
    assert sources
    imported = set()
    for node in itertools.chain.from_iterable(ast.walk(ast.parse(path.read_text())) for path in sources):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    ours = {name for name in imported if name.startswith("flax_agnews")}
    lower = ("errors", "system", "metrics.scores", "metrics.statistics", "runs.result", "runs.trial_record")
    allowed = tuple(f"flax_agnews.{name}" for name in ("report", *lower))
    assert [name for name in ours if not name.startswith(allowed)] == []
    assert not {name.split(".")[0] for name in imported} & {"jax", "flax", "optax", "orbax"}
    assert "matplotlib.pyplot" not in imported


def test_the_report_leaves_what_it_was_given_alone() -> None:
    results = parsed(make(THREE))
    before = copy.deepcopy(results)
    markdown_page(results)
    plots.accuracy_curves(results)
    assert results == before
