"""Other tasks than news, from their public files to the report: reviews, sentence pairs, a thousand classes."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.report_results import page_tables
from support.small_experiments import results, settings, small
from support.source_files import load, write

from flax_agnews import predict
from flax_agnews.errors import UserError
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.main import main
from flax_agnews.trained.classifier import Classifier


def experiment(folder: Path, *flags: object) -> dict[str, Any]:
    """One run of `full` on the data in a folder: results.json; the report lies beside the data."""
    one = ("--strategy", "full", "--train.runs", 1, "--train.batch_size", 32, "--model.from_config.n_layer", 1)
    assert main(small(folder / "out", *one, "--data.source", folder, *flags)) == 0
    return results(folder / "out")


def write_splits(folder: Path, train: Sequence[Any], test: Sequence[Any], suffix: str, columns: Sequence[str]) -> Path:
    for name, rows in (("train", train), ("test", test)):
        write(folder / f"{name}{suffix}", rows, columns)
    return folder


# --- reviews in two classes, as SST-2 has them: Parquet, `sentence`, `label`, `idx`; few are positive

PRAISE = ("lovely", "moving", "clever", "a delight", "superb", "warm")
BLAME = ("dull", "clumsy", "tired", "a waste", "awful", "cold")
ABOUT = ("the plot", "this film", "the cast", "the script", "its ending")


def reviews(count: int, seed: int) -> list[tuple[str, int, int]]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        positive = bool(rng.random() < 0.2)
        first, second = rng.choice(PRAISE if positive else BLAME, 2)
        found.append((f"{rng.choice(ABOUT)} is {first} and {second} .", int(positive), number))
    return found


def test_reviews_in_two_uneven_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("sentence", "label", "idx")
    data = write_splits(tmp_path, reviews(600, 0), reviews(200, 1), ".parquet", columns)
    (data / "classes.txt").write_text("negative\npositive\n")
    flags = ("--data.text_column", "sentence", "--data.limit_train", 600, "--data.limit_test", 200)
    found = experiment(data, *flags, "--train.epochs", 4, "--train.class_weights", "balanced")
    assert found["data"]["classes"] == ["negative", "positive"]
    [run] = found["runs"]
    assert run["test_accuracy"] > found["data"]["majority_accuracy"] + 0.1
    assert run["test_macro_f1"] > 0.9

    counts = np.bincount(load(data, text_column="sentence").train.labels)
    assert found["data"]["class_texts"] == counts.tolist()
    shares = [f"{share:.0f} %" for share in 100 * counts / counts.sum()]
    assert f"2 classes, positive {shares[1]} to negative {shares[0]}" in capsys.readouterr().out
    report = (data / "out" / "report.md").read_text()
    assert f"positive has {counts[1]} ({shares[1]}), and negative has {counts[0]} ({shares[0]})" in report
    assert "every class weighed the same" in report
    [confusion] = [table for table in page_tables(report) if table[0][0] == "true class"]
    assert [row[0] for row in confusion[1:]] == confusion[0][1:3] == ["negative", "positive"]


# --- pairs in three classes, as SNLI has them: JSONL, `premise`, `hypothesis`, `label`

COLOURS, THINGS, OTHERWISE = ("red", "blue"), ("car", "hat"), ("new", "old")


def inferences(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Whether the second text follows from the first: of its colour it does or doesn't, which neither says alone."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        label = str(rng.choice(["entailment", "neutral", "contradiction"]))
        thing, colour, other = rng.integers(2, size=3)
        said = {"entailment": COLOURS[colour], "neutral": OTHERWISE[other], "contradiction": COLOURS[1 - colour]}
        found.append((f"She has a {COLOURS[colour]} {THINGS[thing]}.", f"Her {THINGS[thing]} is {said[label]}.", label))
    return found


def best_by(column: int, rows: Sequence[tuple[str, str, str]]) -> float:
    """The best accuracy on these rows of any rule that reads one of their texts."""
    seen = Counter((row[column], row[2]) for row in rows)
    texts = {row[column] for row in rows}
    return sum(max(seen[text, row[2]] for row in rows) for text in texts) / len(rows)


def test_pairs_are_classified_by_both_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = inferences(1000, 0), inferences(300, 1)
    data = write_splits(tmp_path, train, test, ".jsonl", ("premise", "hypothesis", "label"))
    flags = ("--data.text_column", "[premise, hypothesis]", "--data.limit_train", 1000, "--data.limit_test", 300)
    # Where attention begins nearly uniform, as small weights make it, it takes long to compare two words.
    steep = ("--model.from_config.initializer_range", 0.2, "--model.dropout", 0, "--full.learning_rate", 3e-3)
    found = experiment(data, *flags, *steep, "--train.epochs", 12)
    assert found["data"]["classes"] == ["contradiction", "entailment", "neutral"]
    assert found["data"]["truncated"] == 0
    assert settings(data / "out")["data"]["text_column"] == ["premise", "hypothesis"]
    [run] = found["runs"]
    assert run["test_accuracy"] > max(best_by(0, test), best_by(1, test)) + 0.15
    report = (data / "out" / "report.md").read_text()
    assert "3 classes (contradiction, entailment, neutral)" in report
    assert "uneven" not in report
    assert_trained_on_pairs_answers_pairs(data, test, run["test_accuracy"], capsys)


def assert_trained_on_pairs_answers_pairs(
    data: Path, test: Sequence[tuple[str, str, str]], accuracy: float, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = str(data / "out"), str(data / "test.jsonl")
    classifier = Classifier.load(out)
    pairs = [row[:2] for row in test]
    answers = classifier.predict(pairs)
    right = np.mean([label == row[2] for label, row in zip(answers.labels, test, strict=True)])
    assert right == pytest.approx(accuracy, abs=2 / len(test))  # logits that are equal on paper may round otherwise
    assert evaluate_main([out, "--data", file, "--json", str(data / "found.json")]) == 0
    assert json.loads((data / "found.json").read_text())["accuracy"] == right
    assert predict.main([out, "--file", file, "--out", str(data / "answered.jsonl"), "--prefix", "our_"]) == 0
    rows = [json.loads(line) for line in (data / "answered.jsonl").read_text().splitlines()]
    assert [row["our_label"] for row in rows] == answers.labels
    capsys.readouterr()
    assert predict.main([out, "--text", "\t".join(pairs[0])]) == 0
    assert capsys.readouterr().out.split("\t")[0] == answers.labels[0]
    for wrong, tells in (
        (lambda: predict.main([out, "--text", "one text"]), "two texts with a tab between"),
        (lambda: evaluate_main([out, "--data", file, "--text_column", "premise"]), "needs two: it answers pairs"),
    ):
        assert wrong() == 2
        assert tells in capsys.readouterr().err
    with pytest.raises(UserError, match="answers pairs of texts"):
        classifier.predict(["one text"])


# --- a thousand classes


def test_a_thousand_classes(tmp_path: Path) -> None:
    names = [f"Things | of the *kind* that nobody needs, {number:04}" for number in range(1000)]
    train = [(f"thing {number} {copy}", name) for copy in range(3) for number, name in enumerate(names)]
    data = write_splits(tmp_path, train, train[500:1500], ".jsonl", ("text", "label"))
    limits = ("--data.limit_train", 3000, "--data.limit_test", 1000, "--train.eval_batch_size", 256)
    found = experiment(data, *limits, "--train.epochs", 1, "--train.batch_size", 128)
    assert found["data"]["classes"] == names
    [run] = found["runs"]
    cells = run["test_confusion"]
    assert sum(cells["texts"]) == 1000
    right = [texts for true, said, texts in zip(*cells.values(), strict=True) if true == said]
    assert sum(right) / 1000 == run["test_accuracy"]
    assert (data / "out" / "results.json").stat().st_size < 500_000  # a whole matrix would be a million numbers

    report = (data / "out" / "report.md").read_text()
    assert max(map(len, report.splitlines())) < 1000
    assert "1,000 classes" in report
    [worst] = [table for table in page_tables(report) if table[0][0] == "true class"]
    assert len(worst) == 11
    shown = [name for row in worst[1:] for name in row[:2]]
    assert set(shown) <= {f"{name[:12]}…{name[-11:]}" for name in names}
