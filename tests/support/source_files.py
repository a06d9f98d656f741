"""Writes small data sets for the tests of the data sources, and loads them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flax_agnews.config import DataConfig
from flax_agnews.data import tables
from flax_agnews.data.chunks import Reading
from flax_agnews.data.sources import Corpus, Texts, load_corpus
from flax_agnews.errors import UserError

SUFFIXES = (".csv", ".jsonl", ".parquet")
ROWS = [
    ("Plain text", 0),
    ('Says "quoted, with commas"', 1),
    ("  two lines\nand a CR LF\r\n, kept  ", 2),
    ("Ünïcödé – 日本語 \u2028 🏈", 3),
    ("", 1),
    ("-", 2),
]


def write(path: Path, rows, columns=("text", "label")) -> Path:
    """The rows as a file, in the format of its suffix."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    else:
        values = [list(column) for column in zip(*rows, strict=True)] or [[], []]
        pq.write_table(pa.table(dict(zip(columns, values, strict=True))), path)
    return path


def folder(path: Path, train=ROWS, test=ROWS, suffix=".csv") -> Path:
    path.mkdir(exist_ok=True)
    write(path / f"train{suffix}", train)
    write(path / f"test{suffix}", test)
    return path


def load(source, **settings) -> Corpus:
    return load_corpus(DataConfig(source=str(source), **settings))


def refusal(source, **settings) -> str:
    """The message of the error that loading raises, as commands show it: always one line."""
    with pytest.raises(UserError) as caught:
        load(source, **settings)
    message = caught.value.with_flags
    assert len(message.splitlines()) == 1
    return message


def pairs(rows: Texts) -> list[tuple[str, int]]:
    return list(zip(rows.texts, rows.labels.tolist(), strict=True))


def named_pairs(corpus: Corpus, rows: Texts) -> list[tuple[str, int]]:
    """Texts and labels as they were written, where these are integers: numbers of classes, or names."""
    return [(text, int(corpus.classes[label])) for text, label in pairs(rows)]


def delimited(rows: list[tuple[Any, ...]], delimiter: str, columns: tuple[str, ...] = ("text", "label")) -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([columns, *rows])
    return file.getvalue().encode()


def read_rows(path: Path, size: int = 2, **how: Any) -> list[tuple[object, object]]:
    chunks = [c.rows(["text"], "label") for c in tables.read(path, size, Reading(["text", "label"], **how))]
    return [row for rows in chunks for row in zip(rows.texts, rows.labels, strict=True)]


def in_words(rows: Any) -> list[tuple[str, str]]:
    return [(text, str(label)) for text, label in rows]
