"""predictions.parquet: what is written comes back, other programs can read it, and damage is one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from support.refusals import refused
from support.report_results import make

from flax_agnews.errors import UserError
from flax_agnews.metrics.scores import confusion_record, probabilities
from flax_agnews.runs.predictions import (
    NAME,
    Predictions,
    SplitPredictions,
    predictions_in,
    read_predictions,
    write_predictions,
)

CLASSES = ["World", "Spörts", "|"]


def _split(texts: int, seed: int) -> SplitPredictions:
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 3, texts).astype(np.int32), rng.normal(0, 3, (texts, 3)).astype(np.float32)
    return SplitPredictions(f"{seed:064x}", labels, probabilities(logits))


MADE = Predictions(CLASSES, {"validation": _split(7, 1), "test": _split(40, 2)})


def _assert_equal(found: Predictions | None, expected: Predictions) -> None:
    assert found is not None
    assert (found.classes, list(found.splits)) == (expected.classes, list(expected.splits))
    for name, split in expected.splits.items():
        ours = found.splits[name]
        assert ours.hash == split.hash
        for one, other in ((ours.labels, split.labels), (ours.probabilities, split.probabilities)):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "full" / "seed-42" / NAME
    write_predictions(path, MADE)
    return path


def test_what_was_written_comes_back(path: Path) -> None:
    _assert_equal(predictions_in(path), MADE)
    _assert_equal(read_predictions(path.parents[2], "full", 42), MADE)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert predictions_in(tmp_path / NAME) is None
    assert read_predictions(tmp_path, "full", 42) is None


def test_the_same_predictions_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    found = predictions_in(path)
    assert found is not None
    write_predictions(tmp_path / NAME, found)
    assert (tmp_path / NAME).read_bytes() == path.read_bytes()


def test_pandas_reads_a_row_per_text(path: Path) -> None:
    frame = pandas.read_parquet(path)
    assert frame.columns.tolist() == ["split", "text", "label", "probabilities"]
    assert frame["split"].tolist() == ["validation"] * 7 + ["test"] * 40
    assert frame["text"].tolist() == [*range(7), *range(40)]
    assert frame["label"].tolist() == [*MADE.splits["validation"].labels, *MADE.splits["test"].labels]
    expected = np.concatenate([split.probabilities for split in MADE.splits.values()])
    np.testing.assert_array_equal(np.stack(frame["probabilities"]), expected)


def _damage(path: Path) -> str:
    """The error; where there is none, the content is what was written."""
    try:
        found = predictions_in(path)
    except UserError as error:
        return str(error)
    _assert_equal(found, MADE)
    return ""


def test_a_changed_byte_is_noticed_or_changes_nothing(path: Path) -> None:
    """Some bytes decide nothing, such as the name of the program that wrote the file."""
    whole, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    places = rng.choice(len(whole), 150, replace=False)
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.integers(8))]) + whole[place + 1 :])
        if message := _damage(path):
            assert message.startswith(f"{path}: the predictions are damaged")
            assert "\n" not in message
            noticed += 1
    assert noticed > len(places) / 2


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_cut_file_is_one_line(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(predictions_in, path).startswith(f"{path}: the predictions are damaged")


def _finished(folder: Path, split: SplitPredictions) -> None:
    [run] = make({"full": [0.5]}, classes=tuple(CLASSES))["runs"]
    run["test_confusion"] = confusion_record(split.labels, split.answers, 3)
    (folder / "result.json").write_text(json.dumps(run))


def test_predictions_of_another_run_are_noticed(path: Path) -> None:
    test = MADE.splits["test"]
    _finished(path.parent, test)
    _assert_equal(read_predictions(path.parents[2], "full", 42), MADE)
    _finished(path.parent, replace(test, probabilities=test.probabilities[:, ::-1]))
    message = refused(read_predictions, path.parents[2], "full", 42)
    assert message.startswith(f"{path}: isn't of the run in result.json")
