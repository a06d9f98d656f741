"""result.json and results.json: what is written is what was read, byte for byte; summaries against closed forms."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.report_results import THREE, make, parsed, save

from flax_agnews.errors import UserError
from flax_agnews.runs.result_files import read_results, read_run, run_from, write_results, write_run
from flax_agnews.runs.results import RunResult, json_of, mean_cost, summary

BEFORE = Path(__file__).resolve().parents[1] / "end_to_end" / "made_before" / "run"


def test_files_of_an_earlier_version_are_written_again_byte_for_byte(tmp_path: Path) -> None:
    write_results(tmp_path, read_results(BEFORE))
    assert (tmp_path / "results.json").read_bytes() == (BEFORE / "results.json").read_bytes()
    path = BEFORE / "head" / "seed-42" / "result.json"
    run = read_run(path)
    assert run is not None
    write_run(tmp_path / "result.json", run)
    assert (tmp_path / "result.json").read_bytes() == path.read_bytes()


def test_what_few_runs_have_is_written_where_they_have_it() -> None:
    plain = make({"full": [0.9]})["runs"][0]
    assert json_of(run_from(plain)) == plain
    whole = plain | {"val_macro_f1": [0.5] * 3, "planned_epochs": 3, "stopped_early": False, "skipped_updates": 0}
    whole |= {"settings": {"rank": 4}, "rate_factor": 2.0, "custom": True}
    assert json_of(run_from(whole)) == whole


def test_a_field_of_a_later_version_is_ignored() -> None:
    plain = make({"full": [0.9]})
    assert parsed({**plain, "later": 1, "data": {**plain["data"], "later": [1]}}) == parsed(plain)


def test_a_loss_that_is_not_finite_is_null(tmp_path: Path) -> None:
    results = make(THREE)
    results["runs"][0]["test_loss"] = math.nan
    read = read_results(save(tmp_path, results))
    assert read.runs[0].test_loss is None
    assert read.summary["full"].test_loss.mean is None
    write_results(tmp_path, read)
    assert json.loads((tmp_path / "results.json").read_text())["runs"][0]["test_loss"] is None


@pytest.mark.parametrize(
    "change", [{"seed": 43}, {"strategy": "head"}, {"best_epoch": True}, {"cost": None}, {"val_accuracy": 0.5}]
)
def test_a_result_that_is_another_runs_or_damaged_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "full" / "seed-42" / "result.json"
    assert read_run(path) is None
    path.parent.mkdir(parents=True)
    plain = make({"full": [0.9]})["runs"][0]
    path.write_text(json.dumps(plain))
    assert read_run(path) == run_from(plain)
    path.write_text(json.dumps({**plain, **change}))
    with pytest.raises(UserError, match="is no result of this run; remove it") as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


# Summaries


def _run(strategy: str, seed: int, accuracy: float, loss: float | None, **cost: float) -> RunResult:
    plain = make({strategy: [accuracy]})["runs"][0]
    scores = {"test_accuracy": accuracy, "test_macro_f1": accuracy - 0.01, "test_loss": loss}
    return run_from({**plain, **scores, "seed": seed, "cost": cost})


def test_summary_section_is_each_strategys_numbers() -> None:
    runs = [
        _run("full", 1, 0.90, 0.3, train_seconds=10.0),
        _run("prompt", 1, 0.80, 0.5, train_seconds=7.0),
        _run("full", 2, 0.94, 0.2, train_seconds=12.0),
    ]
    section = summary(runs)
    assert list(section) == ["full", "prompt"]
    assert (section["full"].n, section["prompt"].n) == (2, 1)
    assert section["full"].test_accuracy.mean == pytest.approx(0.92)
    assert section["full"].test_accuracy.sd == pytest.approx(0.04 / math.sqrt(2))
    assert section["prompt"].test_accuracy.sd is None


def test_costs_are_means_of_what_every_run_measured() -> None:
    runs = [
        _run("full", 1, 0.90, 0.3, train_seconds=10.0, peak_memory_bytes=5.0),
        _run("full", 2, 0.94, 0.2, train_seconds=12.0),
    ]
    assert mean_cost(runs).train_seconds == pytest.approx(11)
    assert mean_cost(runs).peak_memory_bytes is None


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_value_that_one_run_lacks_is_null_and_never_nan(missing: float | None) -> None:
    runs = [_run("full", 1, 0.9, 0.3), _run("full", 2, 0.3, missing)]
    section = json.loads(json.dumps(json_of(summary(runs)), allow_nan=False))["full"]
    assert set(section["test_loss"].values()) == {None}
    assert section["test_accuracy"]["mean"] == pytest.approx(0.6)


def test_numpy_numbers_become_plain_ones() -> None:
    run = _run("full", 1, 0.5, 0.25)
    exact = {"test_accuracy": np.float32(0.5), "test_loss": np.float32(0.25)}
    section = summary([RunResult(**{**vars(run), **exact})])
    assert json.loads(json.dumps(json_of(section)))["full"]["test_loss"]["mean"] == 0.25
