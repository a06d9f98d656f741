"""Local data sets in three formats give their rows unchanged, split as the `datasets` library splits."""

import csv
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.source_files import ROWS, SUFFIXES, folder, load, named_pairs, pairs, refusal, write

from flax_agnews.config import DataConfig
from flax_agnews.data import hub
from flax_agnews.data.labels import find_classes
from flax_agnews.data.sources import Texts, split_off

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_rows_unchanged(tmp_path, suffix):
    corpus = load(folder(tmp_path / "data", suffix=suffix))
    assert pairs(corpus.test) == ROWS
    assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(ROWS)
    assert corpus.classes == ["0", "1", "2", "3"]
    assert corpus.test.labels.dtype == np.int32


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=2, max_size=8),
    data=st.data(),
)
def test_any_text_survives(tmp_path, suffix, texts, data):
    labels = data.draw(
        st.lists(st.integers(0, 3), min_size=len(texts), max_size=len(texts)).filter(lambda v: len(set(v)) > 1)
    )
    rows = list(zip(texts, labels, strict=True))
    corpus = load(folder(tmp_path / "data", train=rows, test=rows, suffix=suffix), validation_fraction=0.5)
    assert named_pairs(corpus, corpus.test) == rows


def test_formats_may_differ_between_splits(tmp_path):
    folder(tmp_path)
    write(tmp_path / "validation.parquet", ROWS[:3])
    corpus = load(tmp_path)
    assert pairs(corpus.validation) == ROWS[:3]
    assert pairs(corpus.train) == ROWS  # nothing is split off


def test_single_files(tmp_path):
    train, test = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.csv", ROWS[:2])
    corpus = load(train, test_source=str(test))
    assert corpus.name == str(train)
    assert pairs(corpus.test) == ROWS[:2]


def test_the_suffix_may_be_in_capitals(tmp_path):
    upper = write(tmp_path / "a.csv", ROWS).rename(tmp_path / "A.CSV")
    assert pairs(load(upper, test_source=str(upper)).test) == ROWS


def test_other_columns_may_be_there(tmp_path):
    rows = [(number, text, label) for number, (text, label) in enumerate(ROWS)]
    for suffix in SUFFIXES:
        path = write(tmp_path / f"wide{suffix}", rows, columns=("id", "body", "topic"))
        corpus = load(path, test_source=str(path), text_column="body", label_column="topic")
        assert pairs(corpus.test) == ROWS


def test_two_columns_make_pairs(tmp_path):
    rows = [(label, text, text[::-1]) for text, label in ROWS]
    expected = [((text[::-1], text), label) for label, text, _ in rows]
    for suffix in SUFFIXES:
        path = write(tmp_path / f"pairs{suffix}", rows, columns=("label", "second", "first"))
        corpus = load(path, test_source=str(path), text_column=["first", "second"])
        assert pairs(corpus.test) == expected
        assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(expected)
        assert corpus.test.strings == [part for pair, _ in expected for part in pair]


def test_pairs_and_class_names_of_the_hub(tmp_path, monkeypatch):
    """By the hub's own library, from a folder; a class may have no rows."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names, text = ["entailment", "neutral", "contradiction"], datasets.Value("string")
    features = {"premise": text, "hypothesis": text, "label": datasets.ClassLabel(names=names)}
    rows = {"premise": ["a", "b"], "hypothesis": ["c", ""], "label": [0, 2]}
    for split in ("train", "test"):
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        made.to_parquet(tmp_path / "data" / f"{split}.parquet")
    found = hub.load(DataConfig(source=str(tmp_path / "data"), text_column=["premise", "hypothesis"]))
    assert list(found.splits["train"].texts) == [("a", "c"), ("b", "")]
    assert [rows.names for rows in found.splits.values()] == [names, names]
    classes = find_classes(found.splits["train"])
    assert classes.names == names
    assert classes.numbers(found.splits["test"]).tolist() == [0, 2]


def test_byte_order_mark_blank_lines_and_long_fields(tmp_path):
    long = "word " * 40_000  # longer than the csv module's own limit
    path = tmp_path / "marked.csv"
    before = csv.field_size_limit()
    path.write_text(f"text,label\r\n\r\na,0\r\n{long},1\r\n\r\n", encoding="utf-8-sig", newline="")
    assert pairs(load(path, test_source=str(path)).test) == [("a", 0), (long, 1)]
    assert csv.field_size_limit() == before


def test_home_and_relative_paths(tmp_path, monkeypatch):
    folder(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pairs(load("~/data").test) == ROWS
    monkeypatch.chdir(tmp_path)
    assert pairs(load("./data").test) == pairs(load("data").test) == ROWS


@pytest.mark.parametrize(("rows", "fraction", "seed"), [(2, 0.1, 42), (7, 0.3, 0), (100, 0.1, 42), (999, 0.07, 5)])
def test_the_split_is_the_librarys(rows, fraction, seed):
    texts, labels = [f"text {row}" for row in range(rows)], [row % 3 for row in range(rows)]
    reference = datasets.Dataset.from_dict({"text": texts, "label": labels})
    expected = reference.train_test_split(test_size=fraction, seed=seed)
    train, validation = split_off(Texts(texts, np.array(labels, np.int32)), fraction, seed)
    for ours, theirs in ((train, expected["train"]), (validation, expected["test"])):
        assert ours.texts == list(theirs["text"])
        assert ours.labels.tolist() == list(theirs["label"])


def test_too_few_rows_to_split(tmp_path):
    message = refusal(folder(tmp_path, ROWS[:2], ROWS[:2]), validation_fraction=0.6)
    assert message.startswith("--data.validation_fraction 0.6")
    assert "2 training rows" in message
    with pytest.raises(ValueError, match="empty"):  # so does the library
        datasets.Dataset.from_dict({"a": [1, 2]}).train_test_split(test_size=0.6, seed=42)


def test_the_limit_comes_before_the_split(tmp_path):
    rows = [(f"text {row}", row % 2) for row in range(50)]
    corpus = load(folder(tmp_path, rows, rows), limit_train=20, split_seed=7)
    reference = datasets.Dataset.from_dict({"text": [text for text, _ in rows[:20]]})
    expected = reference.train_test_split(test_size=0.1, seed=7)
    assert corpus.train.texts == list(expected["train"]["text"])
    assert corpus.validation.texts == list(expected["test"]["text"])


def test_real_ag_news():
    source = SHARED / "ag_news"
    if not source.exists():
        pytest.skip("the shared AG News rows are not here")
    corpus = load(source)
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [4500, 500, 7600]
    assert corpus.classes == ["0", "1", "2", "3"]
    reference = datasets.Dataset.from_csv(str(source / "train.csv"), keep_in_memory=True)
    expected = reference.train_test_split(test_size=0.1, seed=42)
    for ours, theirs in ((corpus.train, expected["train"]), (corpus.validation, expected["test"])):
        assert ours.texts == list(theirs["text"])
        assert ours.labels.tolist() == list(theirs["label"])
    assert np.bincount(corpus.test.labels).tolist() == [1900] * 4  # the official test split is balanced
