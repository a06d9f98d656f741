"""The answer's order, ranks and scores, against the statistics' own functions and plain means."""

import numpy as np
import pytest
from support.made_predictions import evidence
from support.report_results import answer_of, make, parsed

from flax_agnews.report.answer import answer
from flax_agnews.statistics.comparisons import compare_all

FIVE = {
    "full": [0.90, 0.905, 0.895, 0.902, 0.898],
    "partial": [0.895, 0.9, 0.905, 0.897, 0.903],
    "prompt": [0.70, 0.71, 0.69, 0.702, 0.698],
}
REFERENCES = {"TF-IDF": 0.6, "majority class": 0.5}


def made(scores, references=None):
    return answer(parsed(make(scores)), evidence(scores, references))


def test_scores_are_those_of_the_predictions():
    found = made(FIVE, REFERENCES)
    assert [entry.name for entry in found.entries] == ["full", "partial", "prompt", "TF-IDF", "majority class"]
    for entry in found.strategies:
        assert entry.accuracy.mean == pytest.approx(np.mean(FIVE[entry.name]), abs=1e-12)
        assert entry.accuracy.low < entry.mean < entry.accuracy.high
    for entry in found.references:
        assert (entry.mean, entry.runs) == (REFERENCES[entry.name], ())


def test_those_that_cannot_be_told_apart_share_a_rank():
    found = made(FIVE, REFERENCES)
    assert [entry.rank for entry in found.entries] == [1, 1, 3, 4, None]
    assert found.ranked


def test_differences_are_of_all_pairs_but_the_majority_class_and_turn_their_sign():
    found = made(FIVE, REFERENCES)
    of = {name: found.evidence.accuracy(name) for name in (*FIVE, "TF-IDF")}
    assert list(found.differences) == compare_all(of)
    one, turned = found.difference("full", "prompt"), found.difference("prompt", "full")
    assert one.mean == pytest.approx(0.2, abs=1e-12)
    assert (turned.mean, turned.low, turned.high) == (-one.mean, -one.high, -one.low)
    assert (turned.low_of_all, turned.high_of_all, turned.shown) == (-one.high_of_all, -one.low_of_all, True)
    assert found.difference("full", "majority class") is None


def test_below_five_seeds_nothing_is_ranked():
    found = made({name: scores[:4] for name, scores in FIVE.items()}, REFERENCES)
    assert [entry.rank for entry in found.entries] == [1, 1, 1, 1, None]
    assert not found.ranked
    assert all(one.p is None for one in found.differences if one.n_seeds is not None)


def test_without_predictions_there_are_means_alone():
    found = answer_of(make(FIVE))
    assert [(entry.name, entry.rank, entry.accuracy) for entry in found.entries] == [
        ("full", None, None),
        ("partial", None, None),
        ("prompt", None, None),
    ]
    assert (found.differences, found.selected) == ([], None)


def test_a_strategy_without_predictions_stands_where_its_mean_belongs_and_is_not_compared():
    scores = FIVE | {"old": [0.95, 0.95, 0.95, 0.95, 0.95]}
    kept = evidence(FIVE)
    found = answer(parsed(make(scores)), kept)
    assert found.entry("old").rank is None
    assert "old" not in {name for one in found.differences for name in (one.a, one.b)}


def test_equal_strategies_keep_the_experiments_order():
    assert [e.name for e in answer_of(make({"b": [0.5], "c": [0.5], "a": [0.5]})).entries] == ["b", "c", "a"]
