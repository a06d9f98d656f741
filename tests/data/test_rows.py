"""Columns are found by name: headers in other case or missing, and columns inside of columns."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.source_files import ROWS, load, pairs, refusal, write

from flax_agnews.data import tables

# Headers


@pytest.mark.parametrize("name", ["Text", "TEXT", " text "])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_header_in_other_case_says_which_setting_takes_it(tmp_path: Path, name: str, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", ROWS, (name, "label"))
    message = refusal(path, test_source=str(path))
    assert message.startswith("--data.text_column text: ")
    fix = message.partition("Did you mean ")[2].removesuffix("?")
    flag, _, value = fix.partition(" ")
    assert flag == "--data.text_column"
    assert pairs(load(path, test_source=str(path), text_column=value.strip("'")).test) == ROWS


def test_a_missing_header_says_which_one_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"Wall St. Bears Claw Back",3\n"Carlyle Looks Toward Aerospace",2\n')
    message = refusal(path, test_source=str(path))
    assert "Wall St. Bears Claw Back" in message
    header = message.rpartition("put one above it: ")[2]
    path.write_text(header + "\n" + path.read_text())
    assert load(path, test_source=str(path)).test.texts == [
        "Wall St. Bears Claw Back",
        "Carlyle Looks Toward Aerospace",
    ]


# Columns inside of columns


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_dots_lead_into_columns(tmp_path: Path, suffix: str) -> None:
    rows = [{"body": {"en": text}, "meta": {"label": {"fine": label}}} for text, label in ROWS]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    names = {"text_column": "body.en", "label_column": "meta.label.fine"}
    assert pairs(load(path, test_source=str(path), **names).test) == ROWS
    message = refusal(path, test_source=str(path), **{**names, "text_column": "body.de"})
    assert message == f"--data.text_column body.de: {path} has the columns body.en, meta.label"


def test_a_column_that_is_null_for_long_still_has_columns_inside(tmp_path: Path) -> None:
    rows = [{"text": "a", "meta": {"label": "x"}}, {"text": "b", "meta": None}, {"text": "c", "meta": 3}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    chunks = [chunk.rows(["text"], "meta.label") for chunk in tables.read(tmp_path / "a.jsonl", 1)]
    assert [rows.labels for rows in chunks] == [["x"], [None], [None]]


def test_a_column_whose_name_has_a_dot_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"a.b": t, "a": {"b": "no"}, "label": n}) for t, n in ROWS))
    assert pairs(load(path, test_source=str(path), text_column="a.b").test) == ROWS
