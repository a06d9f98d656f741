"""Repeated, contradicting, empty and cut texts against naive loops."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_agnews.data.checks import EXAMPLES, check_texts, cut_texts, normalized
from flax_agnews.data.rows import Origins, Text
from flax_agnews.data.sources import Texts
from flax_agnews.data.tokens import load_tokenizer

NAMES = ("train", "validation", "test")
NONE = dict.fromkeys(NAMES, np.zeros(0, np.int64))
WORDS = ["a", "A", "a!", "a b", "A,b", "", " ", "?!", "...", "c", "Straße", "STRASSE"]


def split(rows: Sequence[tuple[Text, int]], name: str = "") -> Texts:
    origins = Origins((name,), np.zeros(len(rows), np.int32), np.arange(1, len(rows) + 1)) if name else None
    return Texts([text for text, _ in rows], np.array([label for _, label in rows], np.int32), origins)


def found(splits: dict[str, Texts]) -> dict[tuple[str, str, str | None], list[int]]:
    return {(f.check.kind, f.check.split, f.check.other): f.numbers.tolist() for f in check_texts(splits, NONE)}


def words(text: Text) -> object:
    """Letters in one case, words apart; None without words."""
    if isinstance(text, tuple):
        both = tuple(words(part) for part in text)
        return both if any(both) else None
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split() or None


def naive(splits: dict[str, Texts]) -> dict[tuple[str, str, str | None], list[int]]:
    numbers: dict[tuple[str, str, str | None], list[int]] = {}
    for place, name in enumerate(NAMES):
        ours = splits[name]
        for other in NAMES[: place + 1]:
            theirs = splits[other]
            for kind in ("same", "alike", "contradicts"):
                if kind != "contradicts" and other == name:
                    continue
                numbers[kind, name, other] = [
                    i
                    for i in range(len(ours))
                    if any(
                        ours.texts[i] == theirs.texts[j]
                        if kind == "same"
                        else words(ours.texts[i]) is not None
                        and words(ours.texts[i]) == words(theirs.texts[j])
                        and (kind == "alike" or ours.labels[i] != theirs.labels[j])
                        for j in range(len(theirs))
                    )
                ]
        numbers["empty", name, None] = [
            i for i, text in enumerate(ours.texts) if not all(map(str.strip, [text] if isinstance(text, str) else text))
        ]
        numbers["cut", name, None] = []
    return numbers


ROW = st.tuples(st.sampled_from(WORDS), st.integers(0, 2))
PAIR = st.tuples(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), st.integers(0, 1))


@pytest.mark.parametrize("row", [ROW, PAIR], ids=["texts", "pairs"])
def test_checks_are_those_of_naive_loops(row: st.SearchStrategy[tuple[Text, int]]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.tuples(*[st.lists(row, min_size=1, max_size=8)] * 3))
    def compare(parts: tuple[list[tuple[Text, int]], ...]) -> None:
        splits = {name: split(rows) for name, rows in zip(NAMES, parts, strict=True)}
        assert found(splits) == naive(splits)

    compare()


def test_examples_name_both_rows() -> None:
    rows = [(f"text {i}", 0) for i in range(30)]
    splits = {"train": split(rows, "a.csv"), "validation": split([("x", 0)], "b.csv"), "test": split(rows[5:], "c.csv")}
    check = next(f.check for f in check_texts(splits, NONE) if (f.check.kind, f.check.split) == ("same", "test"))
    assert check.texts == 25
    assert len(check.examples) == EXAMPLES
    assert [(e.text, e.where, e.other) for e in check.examples][1] == (1, "c.csv row 2", "a.csv row 7")


def test_what_is_normalized() -> None:
    assert normalized("  The U.S. -- said: “NO”,\n_then_ 3.5 ") == "the u s said no then 3 5"
    assert normalized(("Straße!", "")) == ("strasse", "")


@pytest.mark.parametrize("paired", [False, True])
def test_cut_texts_are_those_longer_than_the_limit(paired: bool) -> None:
    tokenizer, limit = load_tokenizer("builtin"), 12
    strings = [("word, " * count).strip() for count in range(14)]
    texts: list[Text] = [(text, "more of it") for text in strings] if paired else list(strings)
    whole = tokenizer.encode(texts, 10_000).lengths
    cut = cut_texts(tokenizer, texts, tokenizer.encode(texts, limit), limit)
    assert cut.tolist() == np.flatnonzero(whole > limit).tolist()
    assert 0 < len(cut) < len(texts)
