"""Tables of texts that are copied with new columns keep every other value, in each format."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flax_agnews.data import chunks, tables
from flax_agnews.errors import UserError

ODD = ['He said "no", twice', "two\nlines", "", " spaces ", "Ünïcödé ☃ 🎉", "a,b;c\td", "'", '"""', "=1+1", "\r\nx\r"]


def copy(source: Path, target: Path, size: int = 3, prefix: str = "") -> list[tables.Chunk]:
    """Writes every row again with a label and a probability, which are the texts and growing numbers."""
    chunks, before = [], 0
    with tables.writing(target) as write:
        for chunk in tables.read(source, size):
            texts = chunk.rows(["text"]).texts
            numbers = np.arange(before, before + len(texts), dtype=np.float32) / 7
            write(chunk, {f"{prefix}label": [f"of {text}" for text in texts], f"{prefix}p": numbers})
            before += len(texts)
            chunks.append(chunk)
    return chunks


def expected(row: dict[str, Any], number: int) -> tuple[str, float]:
    return f"of {row['text']}", float(np.float32(number) / np.float32(7))


def check(rows: list[dict[str, Any]], copied: list[dict[str, Any]]) -> None:
    assert len(copied) == len(rows)
    for number, (row, new) in enumerate(zip(rows, copied, strict=True)):
        label, p = expected(row, number)
        assert {name: new[name] for name in row} == row
        assert list(new) == [*row, "label", "p"]
        assert new["label"] == label
        assert float(new["p"]) == pytest.approx(p, rel=1e-7)


# --- round trips, read back by others


def test_csv_with_quotes_line_breaks_and_unicode(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": text, "more, of it": text[::-1]} for number, text in enumerate(ODD)]
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    chunks = copy(tmp_path / "in.csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        check(rows, list(csv.DictReader(file)))
    assert [len(chunk.records) for chunk in chunks] == [3, 3, 3, 1]
    done = [chunk.done for chunk in chunks]
    assert done == sorted(done)
    assert done[-1] == 1
    lines = (tmp_path / "in.csv").read_bytes().split(b"\n")
    numbers = [number for chunk in chunks for number in chunk.numbers]
    assert all(lines[number - 1].startswith(b'"%d",' % place) for place, number in enumerate(numbers))


fields = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(fields, fields), max_size=7), size=st.integers(1, 4))
def test_any_csv(tmp_path: Path, rows: list[tuple[str, str]], size: int) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([("text", "other"), *rows])
    (tmp_path / "in.csv").write_bytes(written.getvalue().encode())
    copy(tmp_path / "in.csv", tmp_path / "out.csv", size)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, *copied = csv.reader(file)
    assert header == ["text", "other", "label", "p"]
    assert [tuple(row[:2]) for row in copied] == rows
    assert [row[2] for row in copied] == [f"of {text}" for text, _ in rows]


def test_a_byte_order_mark_windows_lines_blank_lines_and_two_columns_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfx,text,x\r\n\r\n1,a,2\r\n3,"b\r\nc",4\r\n')
    copy(tmp_path / "in.csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row[:4] for row in csv.reader(file)] == [
            ["x", "text", "x", "label"],
            ["1", "a", "2", "of a"],
            ["3", "b\r\nc", "4", "of b\r\nc"],
        ]


names = st.text(st.sampled_from('a\r\n",;\t ☃'), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.lists(names, min_size=1, max_size=3, unique=True), mark=st.sampled_from(",;\t|"))
def test_new_columns_of_any_name_and_value(tmp_path: Path, classes: list[str], mark: str) -> None:
    """Class names are in both; a bare line break of old systems too. Read by others, and by ourselves."""
    (tmp_path / "in.csv").write_bytes(f"text{mark}n\na{mark}1\n".encode())
    added = {"label": [classes[0]]} | {f"p_{name}": np.array([0.5], np.float32) for name in classes}
    with tables.writing(tmp_path / "out.csv") as write:
        for chunk in tables.read(tmp_path / "in.csv", 9):
            write(chunk, added)
    expected = [["text", "n", *added], ["a", "1", classes[0], *["0.5"] * len(classes)]]
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, delimiter=mark)) == expected
    [chunk] = tables.read(tmp_path / "out.csv", 9, chunks.Reading(["text", "label"]))
    assert [chunk.columns, *chunk.records] == expected


def test_jsonl_keeps_every_kind_of_value(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "n": 10**30, "list": [1, {"a": None}]} for text in ODD]
    rows += [{"other": 1.5, "text": "b"}, {"text": "c", "half": "\ud800"}]
    (tmp_path / "in.jsonl").write_text("\n\n".join(map(json.dumps, rows)), "utf-8")
    copy(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    check(rows, [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()])
    assert "☃" in (tmp_path / "out.jsonl").read_text("utf-8")


@pytest.mark.parametrize("size", [2, 100])
def test_parquet_keeps_types(tmp_path: Path, size: int) -> None:
    table = pa.table({"text": ODD, "n": pa.array(range(len(ODD)), pa.int16()), "list": [[1.5]] * len(ODD)})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=4)
    copy(tmp_path / "in.parquet", tmp_path / "out.parquet", size)
    copied = pq.read_table(tmp_path / "out.parquet")
    assert copied.select(table.column_names).equals(table)
    check(table.to_pylist(), copied.to_pylist())


@pytest.mark.parametrize(("suffix", "content"), [("csv", b"text,n\n"), ("jsonl", b""), ("parquet", None)])
def test_no_rows_are_no_rows(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    if content is None:
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), source)
    else:
        source.write_bytes(content)
    with tables.writing(target) as write:
        for chunk in tables.read(source, 5):
            assert len(chunk.records) == 0
            write(chunk, {"label": [], "p": np.zeros(0, np.float32)})
    if suffix == "parquet":
        assert pq.read_schema(target).names == ["text", "label", "p"]
    else:
        assert target.read_text() == ("text,n,label,p\n" if suffix == "csv" else "")


# --- constant memory


# --- what is wrong with a file


@pytest.mark.parametrize(
    ("name", "content", "tells"),
    [
        ("in.txt", b"a", "must be a file that ends in .csv, .tsv, .json, .jsonl, .parquet"),
        ("in.csv", b"", "is empty: a header"),
        ("in.csv", b"body\na\n", "--text_column text: {path} has the columns body"),
        ("in.csv", b"text,text\na,b\n", "--text_column text: {path} has the columns text 2 times"),
        ("in.csv", b"text,n\na\n", "{path} line 2: has 1 fields, but the header has 2"),
        ("in.csv", b'text,n\n"a\n\nb",1\nc\n', "{path} line 5: has 1 fields, but the header has 2"),
        ("in.csv", b'text\n"a\n', "{path} line 2: broken CSV"),
        ("in.csv", b"text\na\n\xff\n", "{path} line 3: byte 0xff is not UTF-8"),
        ("in.csv", b"text,label\na,1\n", "{path}: has label already; name the new columns otherwise: --prefix"),
        ("in.jsonl", b'{"text": "a"}\n{"text"\n', "{path} line 2: broken JSON"),
        ("in.jsonl", b"[1]\n", "{path} line 1: must be a JSON object"),
        ("in.jsonl", b'{"text": "a"}\n{"text": "a", "p": 1}\n', "{path}: has p already"),
        ("in.parquet", b"PAR1", "{path}: broken Parquet"),
    ],
)
def test_a_broken_file_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes, tells: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    target = path.with_name(f"out{path.suffix}")
    target.write_text("before")
    with pytest.raises(UserError) as error:
        copy(path, target)
    assert tells.format(path=path) in error.value.with_flags
    assert "\n" not in str(error.value)
    assert target.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, target.name])


def test_a_file_that_is_not_there_and_one_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        list(tables.read(tmp_path / "none.csv", 5))
    (tmp_path / "in.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"none/out\.csv: cannot be written"):
        copy(tmp_path / "in.csv", tmp_path / "none" / "out.csv")


def test_a_new_name_makes_room(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,label\na,1\n")
    copy(tmp_path / "in.csv", tmp_path / "in.csv", prefix="my_")  # in its own place
    assert (tmp_path / "in.csv").read_text() == "text,label,my_label,my_p\na,1,of a,0.0\n"
