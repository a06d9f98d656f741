"""pandas frames of results against the files read by plain JSON and CSV."""

import json
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
from support.report_results import HOSTILE, THREE, ended_early, make, save

from flax_agnews.errors import UserError
from flax_agnews.report import write_report
from flax_agnews.report.frames import load_results
from flax_agnews.runs.predictions import Predictions, SplitPredictions, write_predictions

BEFORE = Path(__file__).resolve().parents[1] / "end_to_end" / "made_before" / "run"
SIZES = {"validation": 5, "test": 12}


def test_runs_are_the_rows_of_the_csv_file(tmp_path: Path) -> None:
    results = make(THREE)
    results["runs"][1]["test_loss"] = results["runs"][1]["cost"]["peak_memory_bytes"] = None
    results["runs"][3]["rate_factor"] = 3.16
    write_report(save(tmp_path, results))
    path = tmp_path / "results.csv"
    frame = load_results(tmp_path).runs
    pandas.testing.assert_frame_equal(frame, pandas.read_csv(path), check_dtype=False)
    assert frame.groupby("strategy")["test_accuracy"].mean().to_dict() == pytest.approx(
        {name: sum(scores) / 3 for name, scores in THREE.items()}
    )


def test_epochs_are_the_curves_of_each_run(tmp_path: Path) -> None:
    results = ended_early(make({"full": [0.9, 0.92], HOSTILE: [0.5]}, epochs=4), [2, 4, 3])
    results["runs"][1]["val_loss"][2] = math.nan
    results["runs"][0]["val_macro_f1"] = [0.25, 0.5]
    frame = load_results(str(save(tmp_path, results))).epochs
    assert len(frame) == 2 + 4 + 3
    for run in results["runs"]:
        rows = frame[(frame["strategy"] == run["strategy"]) & (frame["seed"] == run["seed"])]
        assert rows["epoch"].tolist() == list(range(1, len(run["val_accuracy"]) + 1))
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert rows[name].tolist() == pytest.approx(run[name], nan_ok=True)
    assert frame["val_macro_f1"].dropna().tolist() == [0.25, 0.5]


def test_updates_are_the_lines_of_metrics_files(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (BEFORE / "head/seed-42/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    frame = load_results(BEFORE).updates
    assert frame["step"].tolist() == list(range(1, len(steps) + 1))
    assert frame["train_loss"].tolist() == [line["batch/train_loss"] for line in steps]
    assert frame["grad_norm"].tolist() == [line["batch/grad_norm"] for line in steps]
    assert set(frame["strategy"]) == {"head"}
    assert not frame[["skipped", "spike"]].any(axis=None)
    folder = save(tmp_path, make({"full": [0.5]})) / "full" / "seed-42"
    folder.mkdir(parents=True)
    line = {"step": 1, "batch/train_loss": None, "batch/grad_norm": 2.0, "skipped": True, "nonfinite": ["x"]}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    [row] = load_results(tmp_path).updates.to_dict("records")
    assert math.isnan(row.pop("train_loss"))
    assert row == {"strategy": "full", "seed": 42, "step": 1, "grad_norm": 2.0, "skipped": True, "spike": False}


def _predicted(classes: list[str], seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    chances = {name: rng.dirichlet(np.ones(len(classes)), texts).astype(np.float32) for name, texts in SIZES.items()}
    labels = {name: rng.integers(0, len(classes), texts).astype(np.int32) for name, texts in SIZES.items()}
    return Predictions(classes, {name: SplitPredictions(name, labels[name], chances[name]) for name in SIZES})


def test_predictions_are_the_rows_of_each_runs_file(tmp_path: Path) -> None:
    classes, runs = ["World", "Sports", "text"], [("full", 42), ("full", 43), (HOSTILE.replace("/", ""), 42)]
    save(tmp_path, make({"full": [0.5, 0.6, 0.7], runs[2][0]: [0.5]}, classes=tuple(classes)))
    files = [tmp_path / strategy / f"seed-{seed}" / "predictions.parquet" for strategy, seed in runs]  # one has none
    for number, path in enumerate(files):
        write_predictions(path, _predicted(classes, number))
    frame = load_results(tmp_path).predictions
    assert frame.columns.tolist()[4:] == ["label", "predicted", "p(World)", "p(Sports)", "p(text)"]
    assert len(frame) == sum(SIZES.values()) * len(runs)
    for (strategy, seed), path in zip(runs, files, strict=True):
        rows, plain = frame[(frame["strategy"] == strategy) & (frame["seed"] == seed)], pandas.read_parquet(path)
        for name in ("split", "text"):
            assert rows[name].tolist() == plain[name].tolist()
        assert rows["label"].tolist() == [classes[label] for label in plain["label"]]
        chances = rows.iloc[:, 6:]
        assert chances.to_numpy().tolist() == [row.tolist() for row in plain["probabilities"]]
        assert rows["predicted"].tolist() == [name[2:-1] for name in chances.idxmax(axis=1)]


def test_runs_without_predictions_have_no_rows() -> None:
    found = load_results(BEFORE)
    assert len(found.runs) == 1
    assert found.predictions.empty
    assert found.predictions.columns.tolist() == ["strategy", "seed", "split", "text", "label", "predicted"]


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("{}\n{", "line 2 is not"), ("7", "line 1")])
def test_metrics_that_cannot_be_read_are_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    path = save(tmp_path, make({"full": [0.5]})) / "full" / "seed-42" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    found = load_results(tmp_path)
    assert len(found.runs) == 1
    with pytest.raises(UserError, match=words) as caught:
        _ = found.updates
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("folder", ["nowhere", 7])
def test_no_results_are_one_line(folder: object) -> None:
    with pytest.raises(UserError) as caught:
        load_results(folder)  # type: ignore[arg-type]
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
