"""The answer in words: what it claims follows from ranks and differences, and it claims nothing else."""

import pytest
from support.made_predictions import evidence
from support.report_results import answer_of, make, parsed

from flax_agnews.report.answer import answer
from flax_agnews.report.sentences import notes, sentences

CLEAR = {"full": [0.90, 0.905, 0.895, 0.902, 0.898], "prompt": [0.70, 0.71, 0.69, 0.702, 0.698]}
LIKE = {"full": [0.90, 0.905, 0.895, 0.902, 0.898], "partial": [0.895, 0.9, 0.905, 0.897, 0.903]}


def made(scores, references=None):
    return answer(parsed(make(scores)), evidence(scores, references))


def said(scores, references=None):
    found = made(scores, references)
    return [*sentences(found), *notes(found)]


def test_a_strategy_that_is_shown_to_be_better_is_called_best():
    first, second, *_ = said(CLEAR, {"TF-IDF": 0.6})
    assert first.startswith("full is best, shown against prompt: 90.0 % of 1,000 test texts right (95 %")
    assert second.startswith(
        "It beats the cheap reference, TF-IDF with logistic regression on the same rows with 60.0 %"
    )


@pytest.mark.parametrize("scores", [LIKE, CLEAR | LIKE])
def test_those_that_cannot_be_told_apart_are_named_together(scores):
    first = said(scores)[0]
    assert first.startswith("full, partial can't be told apart and share rank 1")
    assert "best" not in first
    assert ("1 strategy is shown to be worse" in first) == ("prompt" in scores)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_name_no_winner_and_no_p(seeds):
    found = made({name: scores[:seeds] for name, scores in CLEAR.items()})
    first, *others = [*sentences(found), *notes(found)]
    assert "can't show an order" in first
    assert " best" not in first
    assert any("carry no claim" in note for note in others)
    assert any("rough" in note for note in others) == (seeds == 2)
    assert any("With one seed" in note for note in others) == (seeds == 1)


def test_the_seeds_that_a_difference_needs_are_said():
    found = made({"full": [0.9, 0.92, 0.88, 0.91], "head": [0.88, 0.86, 0.9, 0.87]})
    need = found.difference("full", "head").needed
    assert need.seeds or need.limit
    (note,) = [note for note in notes(found) if note.startswith("A difference like that of full and head")]
    words = {"texts": "could not be shown by any number of seeds", "seeds": "more than 100 seeds"}
    assert (f"at least {need.seeds} seeds" if need.seeds else words[need.limit]) in note


def test_a_reference_that_is_not_beaten_is_said_and_the_strategies_are_named():
    _, second, *others = said(CLEAR, {"TF-IDF": 0.95})
    assert second.startswith("It does not beat the cheap reference")
    assert any(note.startswith("No better than TF-IDF (95.0 %): full, prompt") for note in others)


def test_without_predictions_nothing_is_claimed():
    first, second = sentences(answer_of(make(CLEAR)))
    assert first.startswith("full has 90.0 % of 1,000 test texts right, the highest mean of 2 strategies")
    assert "no predictions are kept" in first
    assert "No cheap reference" in second


def test_the_choice_by_validation_is_reported_with_its_corrected_score():
    found = made(CLEAR)
    (note,) = [note for note in notes(found) if note.startswith("Strategies and epochs may be chosen on validation")]
    assert found.selected.name == "full"
    assert f"it chooses full, with {100 * found.selected.test:.1f} % on test" in note
    assert f"{100 * found.selected.corrected.mean:.1f} % without the luck" in note
