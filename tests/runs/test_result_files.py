"""results.json as a report reads it: broken results are refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from support.report_results import THREE, make, save

from flax_agnews.errors import UserError
from flax_agnews.report import read_results, write_report


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
