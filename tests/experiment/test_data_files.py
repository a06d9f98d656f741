"""What an experiment writes about its texts before its first run, and reads again."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.small_experiments import ONE_LAYER, small

from flax_agnews.cli import arguments as cli
from flax_agnews.experiment import data_files
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.runs.checks_file import read_checked
from flax_agnews.runs.references import read_references
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.texts_file import read_texts
from flax_agnews.system.caches import entries, folder_of


def experiment(output: Path, *flags: object) -> Experiment:
    request = cli.parse(small(output, *ONE_LAYER, "--strategy", "head", "--train.runs", 1, "--train.epochs", 1, *flags))
    return Experiment(request.config, request.entries)


def begun(output: Path, *flags: object) -> None:
    """An experiment up to its first run."""
    with experiment(output, *flags) as made:
        assert data_files.write_data_files(made.prepare()).corpus is None


def test_references_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    begun(tmp_path / "one", "--report.reference", "tfidf")
    first = read_references(tmp_path / "one")
    assert list(first) == ["tfidf", "majority"]
    assert "TF-IDF with logistic regression: 0." in capsys.readouterr().out
    assert len(entries(folder_of("references"))) == 1

    monkeypatch.setattr(data_files, "tfidf", lambda *_: pytest.fail("computed again"))
    begun(tmp_path / "one", "--report.reference", "tfidf")  # from the folder
    begun(tmp_path / "two", "--report.reference", "tfidf")  # from the cache
    file = "reference/tfidf/predictions.parquet"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert read_references(tmp_path / "two")["tfidf"].settings == first["tfidf"].settings
    begun(tmp_path / "three")
    assert read_references(tmp_path / "three") == {}


def test_a_damaged_reference_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "out"
    begun(output, "--report.reference", "tfidf")
    before = read_references(output)["tfidf"].predictions.splits["test"]
    for folder in (output / "reference" / "tfidf", *(entry.path for entry in entries(folder_of("references")))):
        (folder / "predictions.parquet").write_bytes(b"PAR1")
    begun(output, "--report.reference", "tfidf")
    after = read_references(output)["tfidf"].predictions.splits["test"]
    assert np.array_equal(after.probabilities, before.probabilities)


def test_references_are_of_the_runs_texts(tmp_path: Path) -> None:
    made = experiment(tmp_path / "out", "--report.reference", "tfidf")
    made.run()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    test = read_references(tmp_path / "out")["majority"].predictions.splits["test"]
    assert np.array_equal(test.labels, made.data.test.labels)
    assert float((test.answers == test.labels).mean()) == results["data"]["majority_accuracy"]


def test_texts_are_those_of_the_runs_until_they_are_not_wanted(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    corpus = made.prepare().corpus
    made.run()
    texts = read_texts(tmp_path)
    assert corpus is not None
    assert texts is not None
    assert (texts["validation"].texts, texts["test"].texts) == (corpus.validation.texts, corpus.test.texts)
    assert np.array_equal(texts["test"].labels, made.data.test.labels)
    begun(tmp_path, "--report.texts", "none")
    assert read_texts(tmp_path) is None


def test_checks_are_in_the_results_and_on_the_display(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"story number {i} of {i * 7},{i % 2}" for i in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows, "Same!,0", "same,1"]))
    (tmp_path / "test.csv").write_text(
        "\n".join(["text,label", rows[3], '"STORY, number 4 of 28",0', "new,1", '" ",0'])
    )
    data = ("--data.source", tmp_path / "train.csv", "--data.test_source", tmp_path / "test.csv")
    output = tmp_path / "out"
    experiment(output, *data).run()
    checks = read_results(output).checks
    assert checks is not None
    counts = {(check.kind, check.split, check.other): check.texts for check in checks}
    both = ("train", "validation")  # two of the rows may be held out
    assert sum(counts["same", "test", other] for other in both) == 1
    assert sum(counts["alike", "test", other] for other in both) == 2
    assert counts["empty", "test", None] == 1
    kept = read_checked(output)
    assert kept is not None
    assert {check: len(numbers) for check, numbers in kept.items()} == {
        check: count for check, count in counts.items() if count and check[1] != "train"
    }
    assert "1 text of test empty" in capsys.readouterr().out
