"""The command `predict` for texts, lines and files; mistakes are one line."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from support.answers import TEST, classifier, logits, run

from flax_agnews import predict
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.trained.classifier import Classifier

__all__ = ["classifier", "logits", "run"]  # fixtures

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def csv_file(tmp_path: Path, classifier: Classifier) -> Path:
    """Texts, labels by name, and an odd column."""
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", 'odd "name"'])
        for place, (text, label) in enumerate(zip(TEST.texts, TEST.labels, strict=True)):
            writer.writerow([text, classifier.classes[label], f'{place}, "quoted"\nline'])
    return path


# --- predict


def test_texts_on_the_command_line(run: Path, classifier: Classifier, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [TEST.texts[0], "two\nlines and [red]markup[/red]", ""]
    assert predict.main([str(run), *(part for text in texts for part in ("--text", text))]) == 0
    lines = capsys.readouterr().out.splitlines()
    answers = classifier.predict(texts)
    for line, label, p, text in zip(lines, answers.labels, answers.probabilities, texts, strict=True):
        assert line.split("\t") == [
            label,
            f"{p.max():.4f}",
            text.replace("\n", " ")[:79] + ("…" if len(text) > 80 else ""),
        ]


def test_lines_of_standard_input(run: Path, classifier: Classifier) -> None:
    """In a process of its own; an empty line is a text too, so that lines stay beside their answers."""
    texts = ["", "Ünïcödé ☃", *TEST.texts[:5]]
    command = [sys.executable, "-m", "flax_agnews.predict", str(run)]
    done = subprocess.run(command, input="\n".join(texts).encode(), capture_output=True, check=True, cwd=ROOT)
    found = [line.split("\t")[0] for line in done.stdout.decode().splitlines()]
    assert found == classifier.predict(texts).labels
    assert b"Traceback" not in done.stderr


def test_standard_input_is_utf8_whatever_the_locale(run: Path, classifier: Classifier) -> None:
    """As a process of an old locale has it; the answers are those of the texts without what ends a line."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "flax_agnews.predict", str(run)],
        input=marked_lines("\n"),
        env={**environment, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    assert_answers_lines(done.stdout.decode("latin-1"), classifier)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_standard_input_may_have_any_line_ends(
    run: Path, classifier: Classifier, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(marked_lines(end)), "latin-1"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "latin-1"))
    assert predict.main([str(run)]) == 0
    assert_answers_lines(written.getvalue().decode("latin-1"), classifier)


LINES = ["", "Ünïcödé ☃", "\ufeffa mark of its own", *TEST.texts[:5]]


def marked_lines(end: str) -> bytes:
    """The lines in UTF-8, after a byte order mark."""
    return b"\xef\xbb\xbf" + end.join(LINES).encode()


def assert_answers_lines(printed: str, classifier: Classifier) -> None:
    answers = classifier.predict(LINES)
    lines = [line.split("\t") for line in printed.splitlines()]
    assert [line[0] for line in lines] == answers.labels
    assert [line[1] for line in lines] == [f"{p:.4f}" for p in answers.probabilities.max(axis=1)]
    assert lines[1][2] == "Ünïcödé \\u2603"  # what the output can't show is written out


def test_a_table_with_tabs_is_answered_and_evaluated(
    run: Path, classifier: Classifier, logits: np.ndarray, tmp_path: Path
) -> None:
    path, out = tmp_path / "in.tsv.gz", tmp_path / "out.tsv"
    rows = [("label", "text"), *((classifier.classes[n], t) for t, n in zip(TEST.texts, TEST.labels, strict=True))]
    with gzip.open(path, "wt", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, dialect="excel-tab").writerows(rows)
    assert predict.main([str(run), "--file", str(path), "--out", str(out), "--prefix", "our_"]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        answered = list(csv.DictReader(file, dialect="excel-tab"))
    assert [row["our_label"] for row in answered] == [classifier.classes[n] for n in logits.argmax(axis=1)]
    assert [row["text"] for row in answered] == TEST.texts
    json_file = tmp_path / "found.json"
    assert evaluate_main([str(run), "--data", str(path), "--json", str(json_file)]) == 0
    found = json.loads(json_file.read_text())
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(TEST.labels, logits.argmax(axis=1)))


def test_a_delimiter_can_be_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text("text^n\nOil, prices^1\n")
    assert predict.main([str(run), "--file", str(path), "--out", str(out), "--delimiter", "^"]) == 0
    assert out.read_text().splitlines()[1].startswith("Oil, prices^1^")
    assert predict.main([str(run), "--file", str(path), "--out", str(out), "--delimiter", "ab"]) == 2
    assert "--delimiter ab: must be one character" in capsys.readouterr().err


def test_nobody_reads_on(run: Path) -> None:
    command = (
        f"yes news | head -100000 | {sys.executable} -m flax_agnews.predict {run} | head -n 1; echo ${{PIPESTATUS[2]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[1:] == ["141"]
    assert "Error" not in done.stderr


def test_a_file_is_copied_with_label_and_probabilities(
    run: Path, classifier: Classifier, csv_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = csv_file.with_name("out.csv")
    assert predict.main([str(run), "--file", str(csv_file), "--out", str(out), "--prefix", "our_"]) == 0
    with csv_file.open(newline="") as before, out.open(newline="") as after:
        old, new = list(csv.DictReader(before)), list(csv.DictReader(after))
    answers = classifier.predict(TEST.texts)
    assert [{name: row[name] for name in old[0]} for row in new] == old
    assert list(new[0]) == [*old[0], "our_label", *(f"our_p_{name}" for name in classifier.classes)]
    assert [row["our_label"] for row in new] == answers.labels
    for place, name in enumerate(classifier.classes):
        written = np.array([row[f"our_p_{name}"] for row in new], np.float32)
        np.testing.assert_array_equal(written, answers.probabilities[:, place])
    told = capsys.readouterr()
    assert told.out == ""  # progress is on standard error
    assert "60 texts" in told.err


# --- evaluate


# --- mistakes


@pytest.mark.parametrize(
    ("main", "flags", "tells"),
    [
        (predict.main, [], "the following arguments are required: RUN; python -m flax_agnews.predict --help"),
        (predict.main, ["nowhere", "--text", "a"], "nowhere: is neither an output folder nor a run"),
        (predict.main, ["{run}", "--txt", "a"], "unrecognized arguments: --txt a"),
        (predict.main, ["{run}", "--file", "in.csv"], "--file and --out go together"),
        (predict.main, ["{run}", "--text", "a", "--file", "in.csv", "--out", "b.csv"], "--text and --file: choose one"),
        (predict.main, ["{run}", "--file", "{csv}", "--out", "{tmp}/out.jsonl"], "must end in .csv, as --file does"),
        (predict.main, ["{run}", "--file", "{tmp}/no.csv", "--out", "{tmp}/b.csv"], "no.csv: no such file"),
        (predict.main, ["{run}", "--file", "{csv}", "--out", "{tmp}/b.csv"], "in.csv: has label already"),
        (predict.main, ["{run}", "--file", "{csv}", "--out", "{tmp}/b.csv", "--text_column", "x"], "--text_column x: "),
        (predict.main, ["{run}", "--text", "\udc80"], "byte 0x80 is not the terminal's encoding"),
        (evaluate_main, ["{run}"], "the following arguments are required: --data"),
        (evaluate_main, ["{run}", "--data", "{csv}", "--label_column", "text"], "is no class"),
        (evaluate_main, ["{run}", "--data", "{csv}", "--label_column", "y"], "--label_column y: "),
        (evaluate_main, ["{run}", "--data", "{tmp}/empty.csv"], "has no rows"),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    run: Path,
    csv_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    flags: list[str],
    tells: str,
) -> None:
    (tmp_path / "empty.csv").write_text("text,label\n")
    before = sorted(tmp_path.iterdir())
    assert main([flag.format(run=run, csv=csv_file, tmp=tmp_path) for flag in flags]) == 2
    out, err = capsys.readouterr()
    [line] = [line for line in err.splitlines() if not line.startswith(("loading ", "predict", "evaluate"))]
    assert line.startswith("error: ")
    assert tells in line
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_lines_that_are_not_utf8(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n"), "utf-8"))
    assert predict.main([str(run)]) == 2
    assert "standard input line 2: byte 0xff is not UTF-8; convert it, such as by iconv" in capsys.readouterr().err
