"""Texts with their origins, written and read, and against the files that they come from."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.refusals import refused

from flax_agnews.config import DataConfig
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.runs.texts_file import TEXTS, read_texts, remove_texts, write_texts

HASHES = {"validation": "a", "test": "b"}


def rows_of(number: int) -> list[tuple[str, str, str]]:
    return [(f"first {number} {i}\nof two lines", f"second, {i}", "ab"[i % 2]) for i in range(20)]


def data(folder: Path, columns: list[str]) -> Corpus:
    """Three training files in two formats, and a test file, with texts of two lines and a blank line."""
    names = ["one", "two", "label"]
    for number in range(2):
        with (folder / f"part{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([names, [], *rows_of(number)])
    pd.DataFrame(rows_of(2), columns=names).to_parquet(folder / "part2.parquet")
    pd.DataFrame(rows_of(3), columns=names).to_json(folder / "test.jsonl", orient="records", lines=True)
    text = columns[0] if len(columns) == 1 else columns
    return load_corpus(
        DataConfig(f"{folder}/part*", f"{folder}/test.jsonl", text_column=text, limit_train=55, validation_fraction=0.4)
    )


@pytest.mark.parametrize("columns", [["one"], ["one", "two"]])
def test_texts_are_read_as_they_were_written(columns: list[str], tmp_path: Path) -> None:
    corpus = data(tmp_path, columns)
    splits = {"validation": corpus.validation, "test": corpus.test}
    assert read_texts(tmp_path) is None
    write_texts(tmp_path, splits, HASHES)
    written, time = (tmp_path / TEXTS).read_bytes(), (tmp_path / TEXTS).stat().st_mtime_ns
    found = read_texts(tmp_path)
    assert found is not None
    assert list(found) == list(splits)
    for name, texts in splits.items():
        assert found[name].texts == texts.texts
        assert np.array_equal(found[name].labels, texts.labels)
        origins = [split.origins for split in (found[name], texts)]
        assert all(origins)
        assert len({tuple(o.at(i) for i in range(len(texts))) for o in origins if o}) == 1
    write_texts(tmp_path, splits, HASHES)
    assert (tmp_path / TEXTS).stat().st_mtime_ns == time
    write_texts(tmp_path / "other", splits, HASHES)
    assert (tmp_path / "other" / TEXTS).read_bytes() == written
    write_texts(tmp_path, {"validation": corpus.test, "test": corpus.test}, {"validation": "b", "test": "b"})
    assert (tmp_path / TEXTS).read_bytes() != written
    remove_texts(tmp_path)
    assert read_texts(tmp_path) is None


def test_origins_lead_back_to_the_rows(tmp_path: Path) -> None:
    """pandas finds each text in its file at its row, from 1; validation texts in the training files."""
    corpus, seen = data(tmp_path, ["one"]), set[str]()
    frames = {str(path): pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    frames |= {str(path): pd.read_parquet(path) for path in tmp_path.glob("*.parquet")}
    frames |= {str(path): pd.read_json(path, lines=True) for path in tmp_path.glob("*.jsonl")}
    for split in (corpus.train, corpus.validation, corpus.test):
        assert split.origins is not None
        for index, text in enumerate(split.texts):
            file = split.origins.files[split.origins.file[index]]
            assert frames[file]["one"][split.origins.row[index] - 1] == text
            seen.add(split.origins.at(index))
    assert len(seen) == 55 + 20


def test_origins_of_the_builtin_corpus_and_of_held_out_test_rows(tmp_path: Path) -> None:
    builtin = load_corpus(DataConfig("builtin", limit_test=5))
    assert builtin.test.origins is not None
    assert builtin.test.origins.at(4) == "builtin test row 5"
    data(tmp_path, ["one"])
    held_out = load_corpus(DataConfig(f"{tmp_path}/part2.parquet", test_fraction=0.2, text_column="one")).test
    assert held_out.origins is not None
    assert [held_out.origins.row[i] - 1 for i in range(4)] == [int(str(t).split()[2]) for t in held_out.texts]


def test_damaged_texts(tmp_path: Path) -> None:
    (tmp_path / TEXTS).write_bytes(b"PAR1")
    assert str(tmp_path / TEXTS) in refused(read_texts, tmp_path)
