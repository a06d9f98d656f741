"""CSV and TSV files: how the delimiter, line ends, byte order marks and encodings are found."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from support.source_files import ROWS, delimited, folder, in_words, load, pairs, read_rows, refusal, write

from flax_agnews.data import tables

# Delimiters


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_header_shows_the_delimiter(tmp_path: Path, delimiter: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(delimited(ROWS, delimiter))
    assert pairs(load(path, test_source=str(path)).test) == ROWS
    assert read_rows(path) == in_words(ROWS)
    with tables.writing(tmp_path / f"b{suffix}") as out:  # and without knowing which columns are wanted
        for chunk in tables.read(path, 4):
            out(chunk, {"label_": ["x\ry"] * len(chunk.numbers)})
    with (tmp_path / f"b{suffix}").open(encoding="utf-8", newline="") as file:
        copied = list(csv.reader(file, delimiter=delimiter))
    assert copied == [["text", "label", "label_"], *([text, str(label), "x\ry"] for text, label in ROWS)]


@pytest.mark.parametrize(("given", "written"), [("^", "^"), ("tab", "\t"), (":", ":")])
def test_a_delimiter_that_is_named(tmp_path: Path, given: str, written: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited(ROWS, written))
    assert pairs(load(path, test_source=str(path), delimiter=given).test) == ROWS


def test_a_delimiter_is_chosen_by_the_columns_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited([("a", 1, 0), ("b", 2, 1)], ";", ("text", "size, in words, and so on", "label")))
    assert read_rows(path) == [("a", "0"), ("b", "1")]


def test_a_delimiter_that_is_wrong_or_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited(ROWS, "^"))
    message = refusal(path, test_source=str(path))
    assert message.startswith(f"--data.text_column text: {path} has the columns text^label. ")
    assert "--data.delimiter CHARACTER" in message
    assert "--data.delimiter" in refusal(path, test_source=str(path), delimiter=";")


# Line ends, marks and encodings


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_line_ends_and_marks(tmp_path: Path, end: str, mark: bytes, suffix: str) -> None:
    """Lines that are texts' own stay as they are, those of the file don't matter."""
    texts = ["Ünïcödé ☃", "two\r\nlines", "an old\rone", "\ufeffa mark", " \u2028 "]
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        file = io.StringIO()
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end)
        writer.writerows([("text", "label"), *((text, "0") for text in texts)])
        content = file.getvalue()
    else:
        objects = [json.dumps({"text": text, "label": "0"}, ensure_ascii=False) for text in texts]
        content = end.join(objects) + end if suffix == ".jsonl" else f"[{end}{f',{end}'.join(objects)}{end}]{end}"
    path.write_bytes(mark + content.encode())
    assert read_rows(path) == [(text, "0") for text in texts]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
@pytest.mark.parametrize("encoding", ["UTF-16", "WINDOWS-1252"])
def test_the_advice_about_an_encoding_works(tmp_path: Path, suffix: str, encoding: str) -> None:
    """The command that the error gives, run, makes a file that is read."""
    rows = [("café", "0"), ("naïve", "1")]
    good = write(tmp_path / "good.jsonl", rows) if suffix != ".csv" else write(tmp_path / "good.csv", rows)
    path, new = tmp_path / f"old{suffix}", tmp_path / f"new{suffix}"
    content = good.read_text("utf-8")
    if suffix == ".json":
        content = "[" + ",\n".join(content.splitlines()) + "]"
    path.write_bytes(content.encode(encoding))
    message = refusal(path, test_source=str(path))
    line = 1 if encoding == "UTF-16" or suffix != ".csv" else 2
    assert message.startswith(f"{path} line {line}: byte 0x")
    command = message.partition("such as by ")[2].replace("OLD", str(path)).replace("NEW", str(new))
    subprocess.run(command, shell=True, check=True)
    assert read_rows(new) == rows


def test_class_names_are_read_as_they_are_written(tmp_path: Path) -> None:
    names = ["Wörld", " Sports", "a \u2028 b", "Sci/Tech"]
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode() + b"\r\n")
    assert load(folder(tmp_path)).classes == names
    (tmp_path / "classes.txt").write_bytes(b"a\nb\nc\n\xe9\n")
    assert f"{tmp_path / 'classes.txt'} line 4: byte 0xe9 is not UTF-8" in refusal(tmp_path)
