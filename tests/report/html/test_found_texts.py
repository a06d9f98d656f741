"""Data checks in words, their examples, and accuracies without their texts."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.page_folders import answer_of, output_folder

from flax_agnews.data.checks import DataCheck
from flax_agnews.report.html.found_texts import data_checks, title
from flax_agnews.runs.checks_file import read_checked
from flax_agnews.runs.texts_file import read_texts


def test_what_was_found_is_first_with_examples_and_accuracies(tmp_path: Path) -> None:
    folder = output_folder(tmp_path, {"full": 2.0, "head": 1.0})
    answer, texts = answer_of(folder), read_texts(folder) or {}
    alike, empty = data_checks(answer, read_checked(folder) or {}, texts)
    assert (alike.count, alike.of, empty.count, empty.of) == (3, 120, 0, 3960)
    assert alike.examples[0] == f"test.csv row 3 (also train.csv row 42): {texts['test'].texts[2]}"
    assert len(alike.examples) == 3
    rest = [k for k in range(120) if k not in (2, 5, 11)]
    assert set(alike.accuracy_without) == {entry.name for entry in answer.entries}
    for name, accuracy in alike.accuracy_without.items():
        of = answer.evidence.split(name, "test")
        each = [np.mean([seed[k].argmax() == of.labels[k] for k in rest]) for seed in of.probabilities]
        assert accuracy == pytest.approx(np.mean(each))
    assert empty.accuracy_without == {}


def test_without_texts_examples_have_places_only(tmp_path: Path) -> None:
    folder = output_folder(tmp_path, {"full": 2.0})
    alike, _ = data_checks(answer_of(folder), {}, None)
    assert alike.examples[1] == "test.csv row 6 (also train.csv row 45)"
    assert alike.accuracy_without == {}


def test_an_older_folder_has_no_checks(tmp_path: Path) -> None:
    folder = output_folder(tmp_path, {"full": 2.0}, keep=False)
    assert data_checks(answer_of(folder), {}, None) == []


def test_every_kind_has_words_of_its_own() -> None:
    splits = ("train", "validation", "test")
    kinds = [
        *((kind, split, other) for kind, split, other in product(("same", "alike", "contradicts"), splits, splits)),
        *((kind, split, None) for kind, split in product(("empty", "cut"), splits)),
    ]
    titles = [
        title(DataCheck(kind=kind, split=split, other=other, texts=0, examples=[])) for kind, split, other in kinds
    ]
    assert len(set(titles)) == len(kinds)
    assert "Test texts that also stand in training, unchanged" in titles
    assert not [found for found in titles if "{" in found or "None" in found]
