"""pandas frames of results against the files read by plain JSON and CSV."""

import json
import math
from pathlib import Path

import pandas
import pytest
from support.report_results import HOSTILE, THREE, ended_early, make, save

from flax_agnews.errors import UserError
from flax_agnews.report import write_report
from flax_agnews.report.frames import load_results

BEFORE = Path(__file__).resolve().parents[1] / "end_to_end" / "made_before" / "run"


def test_runs_are_the_rows_of_the_csv_file(tmp_path: Path) -> None:
    results = make(THREE)
    results["runs"][1]["test_loss"] = results["runs"][1]["cost"]["peak_memory_bytes"] = None
    results["runs"][3]["rate_factor"] = 3.16
    [path, *_] = write_report(save(tmp_path, results))
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
