"""The report's page against the results that it was made of, read back as Markdown."""

import ast
import copy
import csv
import itertools
from pathlib import Path

from matplotlib.image import imread
from support.report_results import HOSTILE, THREE, answer_of, ended_early, make, page_tables, parsed, save

import flax_agnews.report
from flax_agnews.report import plots, write_report
from flax_agnews.report.answer import answer
from flax_agnews.report.page import markdown_page


def test_a_report_is_five_files_and_nothing_else(tmp_path: Path) -> None:
    paths = write_report(save(tmp_path, make(THREE)))
    pictures = ["accuracy_curves.png", "accuracy_curves.svg"]
    assert [path.name for path in paths] == ["report.html", "report.md", "results.csv", *pictures]
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in paths), "results.json"}
    assert imread(tmp_path / "accuracy_curves.png").shape[1] == 1200


# The page


def test_how_the_data_were_read_is_said() -> None:
    results = make({"full": [0.9]})
    assert "How it was read" not in markdown_page(answer_of(results))  # of a folder that doesn't say
    results["data"]["notes"] = ["labels are class names", "3 rows of *train* without label left out"]
    page = markdown_page(answer_of(results))
    assert r"- How it was read: labels are class names; 3 rows of \*train\* without label left out." in page


def test_what_float32_meant_is_said() -> None:
    results = make({"full": [0.9]})
    assert ", float32." in markdown_page(answer_of(results))  # of a folder that doesn't say
    results["model"]["products"] = "TF32"
    assert ", float32 (products in TF32)." in markdown_page(answer_of(results))


def test_random_weights_and_idle_runs_are_called_so() -> None:
    results = make({"full": [0.9, 0.26], "prompt": [0.5, 0.27]})
    page = markdown_page(answer_of(results))
    assert "Random weights" not in page
    assert "full seed 43." in page.split("No better than the majority class")[1].splitlines()[0]
    results["model"]["name"] = "random GPT-2 3 x 128"
    results["data"]["majority_accuracy"] = 0.2
    page = markdown_page(answer_of(results))
    assert "say nothing about GPT-2" in page
    assert "majority class**" not in page


def test_runs_that_stopped_and_updates_that_were_skipped_are_named() -> None:
    results = make(THREE)
    assert "not finite" not in markdown_page(answer_of(results))
    results["diverged"] = ["prompt seed 45 at step 7 (loss)", f"{HOSTILE} seed 1 at step 2 (loss)"]
    results["runs"][1]["skipped_updates"] = 1234
    results["runs"][2]["skipped_updates"] = 0
    page = markdown_page(answer_of(results))
    stopped, skipped = (line for line in page.splitlines() if "not finite**" in line)
    assert "prompt seed 45 at step 7" in stopped
    assert HOSTILE not in stopped
    assert "full seed 43 (1,234)." in skipped
    assert "full seed 44" not in skipped


def test_runs_that_ended_early_have_their_own_epochs(tmp_path: Path) -> None:
    results = ended_early(make({"full": [0.9, 0.92, 0.95], "head": [0.5, 0.4, 0.3]}, epochs=5), [2, 5, 3, 5, 5, 5])
    page = markdown_page(answer_of(results))
    rows = {name: ran for name, _, ran in next(t for t in page_tables(page) if "epochs run" in t[0])[1:]}
    assert rows == {"full": "2, 5, 3", "head": "5"}
    assert "2 of 6 runs ended early" in page
    assert "counts in later epochs with its last" in page
    write_report(save(tmp_path, results))
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["epochs"] for row in csv.DictReader(file)] == ["2", "5", "3", "5", "5", "5"]
    whole = markdown_page(answer_of(make(THREE)))
    assert "ended early" not in whole
    assert "counts in later epochs" not in whole


def test_page_says_how_to_run_it_again_and_with_what() -> None:
    results = make(THREE)
    results["pretrain"] = {"epochs": 1, "loss": [4.9, None, 3.7]}
    page = markdown_page(answer_of(results))
    assert "python -m flax_agnews.main --config config.yaml" in page
    assert "1 epoch of language modelling" in page
    assert "loss 4.90 → 3.70" in page
    cells = {row[0]: row[1] for table in page_tables(page) for row in table}
    assert (cells["train.epochs"], cells["jax"]) == ("3", "0.10.2")


# What is refused


# The command, and the floor


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
    # Files of an output folder that need no JAX; reading them is checked in `test_commands_imports.py`.
    files = ("runs.result", "runs.trial_record", "runs.predictions", "runs.references")
    files += ("runs.merged_file", "runs.texts_file", "runs.checks_file", "runs.shards")
    lower = ("errors", "config", "system", "metrics.scores", "statistics", *files)
    allowed = tuple(f"flax_agnews.{name}" for name in ("report", *lower))
    assert [name for name in ours if not name.startswith(allowed)] == []
    assert not {name.split(".")[0] for name in imported} & {"jax", "flax", "optax", "orbax"}
    assert "matplotlib.pyplot" not in imported


def test_the_report_leaves_what_it_was_given_alone() -> None:
    results = parsed(make(THREE))
    before = copy.deepcopy(results)
    markdown_page(answer(results))
    plots.accuracy_curves(results)
    assert results == before
