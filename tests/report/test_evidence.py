"""Predictions read from an output folder: which are paired, and what is said of the rest."""

import json

import numpy as np
from support.made_predictions import LABELS, predictions, reference
from support.report_results import make, parsed

from flax_agnews.metrics.scores import confusion_record
from flax_agnews.report.evidence import read_evidence
from flax_agnews.runs.predictions import write_predictions
from flax_agnews.runs.references import folder_of_reference, write_reference

SCORES = {"full": [0.9, 0.8], "head": [0.7, 0.6]}


def folder_of(path, results, leave_out=(), hashes=None):
    """An output folder with the predictions of its runs, except some."""
    for run in results["runs"]:
        place = path / run["strategy"] / f"seed-{run['seed']}"
        place.mkdir(parents=True)
        kept = predictions(run["test_accuracy"], [run["seed"]], (hashes or {}).get(run["strategy"], "texts"))
        test = kept.splits["test"]
        run["test_confusion"] = confusion_record(test.labels, test.answers, 2)
        (place / "result.json").write_text(json.dumps(run))
        if (run["strategy"], run["seed"]) not in leave_out:
            write_predictions(place / "predictions.parquet", kept)
    return path


def test_outcomes_are_those_of_the_files(tmp_path):
    results = make(SCORES)
    folder_of(tmp_path, results)
    write_reference(folder_of_reference(tmp_path, "tfidf"), reference(0.75, "tfidf"))
    found = read_evidence(tmp_path, parsed(results))
    assert (found.names, found.notes) == (["full", "head", "TF-IDF"], ())
    for name, scores in {**SCORES, "TF-IDF": [0.75]}.items():
        assert found.accuracy(name).values.mean(axis=1).tolist() == scores
        answers = found.split(name, "test")
        right = (answers.probabilities.argmax(-1) == LABELS["test"]).mean(axis=1)
        assert np.array_equal(right, scores)
        assert np.array_equal(
            ~answers.wrong.all(axis=0), (answers.probabilities.argmax(-1) == LABELS["test"]).any(axis=0)
        )
    assert (found.seeds("full"), found.seeds("TF-IDF")) == ([42, 43], None)


def test_a_strategy_with_a_run_without_predictions_is_left_out_and_named(tmp_path):
    results = make(SCORES)
    folder_of(tmp_path, results, leave_out=[("head", 43)])
    found = read_evidence(tmp_path, parsed(results))
    assert found.names == ["full"]
    assert [note for note in found.notes if "1 run of head" in note]


def test_predictions_of_other_texts_are_never_paired(tmp_path):
    results = make(SCORES | {"lora": [0.9, 0.9]})
    folder_of(tmp_path, results, hashes={"head": "other texts"})
    write_reference(folder_of_reference(tmp_path, "tfidf"), reference(0.75, "tfidf"))
    found = read_evidence(tmp_path, parsed(results))
    assert found.names == ["full", "lora", "TF-IDF"]
    assert [note for note in found.notes if "head were tested on other texts" in note]


def test_a_damaged_file_costs_the_report_nothing_but_that_strategy(tmp_path):
    results = make(SCORES)
    folder_of(tmp_path, results)
    (tmp_path / "full" / "seed-42" / "predictions.parquet").write_bytes(b"PAR1 nothing")
    found = read_evidence(tmp_path, parsed(results))
    assert found.names == ["head"]
    assert any("seed-42/predictions.parquet" in note for note in found.notes)
