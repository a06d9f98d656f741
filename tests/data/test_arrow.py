"""Parquet and folders of save_to_disk: class names in their types."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.source_files import ROWS, load, pairs, read_rows, refusal

from flax_agnews.data import tables

NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def features(**columns: Any) -> datasets.Features:
    return datasets.Features(text=datasets.Value("string"), **columns)


def test_parquet_of_the_datasets_library_has_class_names(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    made = datasets.Dataset.from_dict(dict(zip(("text", "label"), zip(*ROWS, strict=True), strict=True)))
    made = made.cast(features(label=label))
    for split in ("train", "test"):
        made.to_parquet(tmp_path / f"{split}.parquet")
    corpus = load(tmp_path)
    assert corpus.classes == NAMES
    assert pairs(corpus.test) == ROWS
    with tables.writing(tmp_path / "answered.parquet") as out:
        for chunk in tables.read(tmp_path / "test.parquet", 4):
            out(chunk, {"answer": ["World"] * len(chunk.numbers)})
    again = datasets.Dataset.from_parquet(str(tmp_path / "answered.parquet"), keep_in_memory=True)
    assert again.features["label"] == label
    assert again["answer"] == ["World"] * len(ROWS)


def test_class_names_inside_of_a_column(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    rows = {"text": [t for t, _ in ROWS], "meta": [{"label": n} for _, n in ROWS]}
    made = datasets.Dataset.from_dict(rows, features=features(meta={"label": label}))
    made.to_parquet(tmp_path / "a.parquet")
    [chunk] = tables.read(tmp_path / "a.parquet", 99)
    assert chunk.rows(["text"], "meta.label").names == NAMES


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}', b'{"info": {"features": {"label": 7}}}',
                b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}', b"\xff", b"[" * 10**5],
)  # fmt: skip
def test_odd_metadata_declares_nothing(tmp_path: Path, content: bytes) -> None:
    table = pa.table({"text": ["a", "b"], "label": [0, 1]}).replace_schema_metadata({"huggingface": content})
    pq.write_table(table, tmp_path / "a.parquet")
    [chunk] = tables.read(tmp_path / "a.parquet", 99)
    rows = chunk.rows(["text"], "label")
    assert (rows.names, rows.labels) == (None, [0, 1])


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    columns = dict(zip(("text", "label"), map(list, zip(*ROWS, strict=True)), strict=True))
    made = datasets.Dataset.from_dict(columns, features=features(label=label))
    datasets.DatasetDict(train=made, test=made.select([3, 0, 1])).save_to_disk(tmp_path / "all")
    corpus = load(tmp_path / "all")
    assert corpus.classes == NAMES
    assert pairs(corpus.test) == [ROWS[3], ROWS[0], ROWS[1]]
    assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(ROWS)
    assert read_rows(tmp_path / "all") == pairs(corpus.test)
    assert read_rows(tmp_path / "all" / "train", only=True) == ROWS

    assert "has no test split" in refusal(tmp_path / "all" / "train")
    alone = load(tmp_path / "all" / "train", test_fraction=0.3)
    assert sorted(pairs(alone.train) + pairs(alone.validation) + pairs(alone.test)) == sorted(ROWS)
    (tmp_path / "all" / "train" / "state.json").write_text("{}")
    assert "can't be read as a data set of save_to_disk" in refusal(tmp_path / "all")
