"""Scores of classes against scikit-learn, and where they have intervals."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support
from support.page_folders import answer_of, output_folder

from flax_agnews.report.html.class_scores import class_scores

REFERENCE = "TF-IDF"


def values(one) -> tuple[float, float, float]:
    return one.precision.value, one.recall.value, one.f1.value


def test_scores_are_means_over_seeds_of_scikit_learns(tmp_path: Path) -> None:
    answer = answer_of(output_folder(tmp_path, {"full": 2.5, "head": 1.0}))
    found = {(one.strategy, one.label): one for one in class_scores(answer)}
    assert len(found) == 3 * 4
    for name in ("full", "head", REFERENCE):
        of = answer.evidence.split(name, "test")
        each = [
            precision_recall_fscore_support(of.labels, seed.argmax(axis=1), labels=range(4), zero_division=0)[:3]
            for seed in of.probabilities
        ]
        for label in range(4):
            one = found[name, label]
            assert values(one) == pytest.approx(np.mean(each, axis=0)[:, label])
            for score in (one.precision, one.recall, one.f1):
                assert score.low < score.value < score.high


def test_without_predictions_the_scores_come_from_the_confusion_matrices(tmp_path: Path) -> None:
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    for folder in (whole, bare):
        folder.mkdir()
    kept = answer_of(output_folder(whole, {"full": 2.5, "head": 1.0}))
    without = answer_of(output_folder(bare, {"full": 2.5, "head": 1.0}, keep=False))
    expected = {(one.strategy, one.label): values(one) for one in class_scores(kept)}
    found = class_scores(without)
    assert len(found) == 2 * 4
    for one in found:
        assert values(one) == pytest.approx(expected[one.strategy, one.label])
        assert one.f1.low is None


def test_of_many_classes_the_weakest_have_intervals_and_those_without_texts_no_scores(tmp_path: Path) -> None:
    names = [f"class {k}" for k in range(150)]  # some have no text among 300; confusion matrices are kept as cells
    answer = answer_of(output_folder(tmp_path, {"full": 4.0, "head": 3.0}, seeds=1, texts=300, classes=names))
    labels = answer.evidence.split("full", "test").labels
    found = class_scores(answer)
    assert {one.label for one in found} == set(labels.tolist()) < set(range(150))
    assert not any(one.recall.low is not None for one in found)  # no class has ten texts

    answer = answer_of(output_folder(tmp_path, {"full": 4.0, "head": 3.0}, seeds=1, texts=900, classes=names[:20]))
    found = class_scores(answer)
    mean = {label: np.mean([one.f1.value for one in found if one.label == label]) for label in range(20)}
    drawn = {one.label for one in found if one.f1.low is not None}
    assert drawn == set(sorted(mean, key=lambda label: mean[label])[:12])
