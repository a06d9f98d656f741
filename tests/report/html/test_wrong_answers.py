"""Confusions with their texts, hard texts and texts that can be opened, against loops over all answers."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from support.page_folders import answer_of, labels_of, output_folder

from flax_agnews.report.answer import Answer
from flax_agnews.report.html import wrong_answers
from flax_agnews.report.html.wrong_answers import confusions, hard_texts, opened, origin
from flax_agnews.runs.texts_file import read_texts

SKILLS = {"full": 2.5, "head": 1.2, "lora": 1.6}
REFERENCE = "TF-IDF"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return output_folder(tmp_path_factory.mktemp("out"), SKILLS)


@pytest.fixture(scope="module")
def answer(folder: Path) -> Answer:
    return answer_of(folder)


def given(answer: Answer, name: str) -> list[list[int]]:
    """[seeds][texts] answers."""
    return answer.evidence.split(name, "test").probabilities.argmax(axis=-1).tolist()


LABELS = labels_of({"validation": 60, "test": 120})["test"].tolist()


def test_confusions_are_sums_over_seeds_and_their_texts_are_the_wrong_ones(answer: Answer) -> None:
    found = {one.strategy: one for one in confusions(answer, with_texts=True)}
    assert set(found) == {*SKILLS, REFERENCE}
    for name, one in found.items():
        seeds = given(answer, name)
        assert one.counts == sum(confusion_matrix(LABELS, seed, labels=range(4)) for seed in seeds).tolist()
        assert one.seeds == len(seeds)
        wrong = Counter(
            (label, guess, text) for seed in seeds for text, (label, guess) in enumerate(zip(LABELS, seed, strict=True))
            if label != guess
        )  # fmt: skip
        listed = {(*cell, text): seeds for cell, texts in one.texts.items() for text, seeds in texts}
        assert listed == dict(wrong)
        for texts in one.texts.values():
            assert texts == sorted(texts, key=lambda pair: (-pair[1], pair[0]))


def test_without_predictions_confusions_have_no_texts(answer: Answer, tmp_path: Path) -> None:
    bare = confusions(answer_of(output_folder(tmp_path, SKILLS, keep=False)), with_texts=True)
    kept = {one.strategy: one for one in confusions(answer, with_texts=False)}
    assert {one.strategy for one in bare} == set(SKILLS)
    for one in bare:
        assert one == kept[one.strategy]
        assert one.texts == {}


def test_hard_texts_are_those_of_a_loop(answer: Answer) -> None:
    everywhere, somewhere = [], {}
    for text, label in enumerate(LABELS):
        shares = [sum(seed[text] != label for seed in given(answer, name)) / 3 for name in SKILLS]
        lost = [share > 0.5 for share in shares]
        if all(lost):
            everywhere.append(text)
        elif any(lost):
            somewhere[text] = float(np.var(shares))
    all_wrong, disputed = hard_texts(answer)
    assert all_wrong == everywhere != []
    assert set(disputed) == set(somewhere) != set()
    order = [(-round(somewhere[text], 9), text) for text in disputed]
    assert order == sorted(order)


def test_one_strategy_is_in_no_dispute(tmp_path: Path) -> None:
    assert hard_texts(answer_of(output_folder(tmp_path, {"full": 2.0}))) == ([], [])


def test_opened_texts_have_content_origin_and_all_answers(
    answer: Answer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = (read_texts(folder) or {})["test"]
    found = opened(answer, texts, [7, 3])
    names = [*SKILLS, REFERENCE]
    wrong = {
        text for name in names for seed in given(answer, name) for text in range(120) if seed[text] != LABELS[text]
    }
    assert set(found) == wrong | {7, 3}
    assert list(found)[:2] == [7, 3]
    for number, text in found.items():
        assert text.content == texts.texts[number]
        assert text.origin == f"test.csv row {number + 1}"
        assert text.label == LABELS[number]
        assert {name: list(counts) for name, counts in text.answers.items()} == {
            name: [sum(seed[number] == label for seed in given(answer, name)) for label in range(4)] for name in names
        }
    monkeypatch.setattr(wrong_answers, "MOST_TEXTS", 20)
    first = opened(answer, texts, [7, 3])
    assert list(first) == list(found)[:20]
    lost = {
        number: sum(np.mean([seed[number] != LABELS[number] for seed in given(answer, name)]) for name in names)
        for number in wrong
    }
    assert min(lost[number] for number in list(first)[2:]) >= max(lost[n] for n in wrong - set(first)) - 1e-9


def test_pairs_are_joined_and_texts_without_origin_have_none(tmp_path: Path) -> None:
    pairs = [(f"premise {k}", f"hypothesis {k}") for k in range(120)]
    folder = output_folder(tmp_path, SKILLS, contents=pairs)
    texts = (read_texts(folder) or {})["test"]
    assert opened(answer_of(folder), texts, [5])[5].content == "premise 5\nhypothesis 5"
    assert origin(type(texts)(texts.texts, texts.labels), 5) == ""


def test_of_too_many_classes_there_are_no_matrices(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_answers, "MOST_CLASSES", 3)
    assert confusions(answer, with_texts=True) == []
