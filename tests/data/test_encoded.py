"""The hash of a split: equal for equal texts and labels however they are tokenized, and for no others."""

from collections.abc import Sequence

import numpy as np
import pytest

from flax_agnews.data.encoded import encode_corpus, hash_of_split
from flax_agnews.data.rows import Text
from flax_agnews.data.sources import Corpus, Texts
from flax_agnews.data.tokens import train_tokenizer

TEXTS: tuple[Text, ...] = ("one two", "three", "", "\ud800 lone")


def _hash(texts: Sequence[Text] = TEXTS, labels: Sequence[int] = (0, 1, 1, 0)) -> str:
    return hash_of_split(Texts(list(texts), np.array(labels, np.int32)))


def test_equal_texts_and_labels_have_equal_hashes() -> None:
    assert _hash() == hash_of_split(Texts(list(TEXTS), np.array([0, 1, 1, 0], np.int64)))


@pytest.mark.parametrize(
    "other",
    [
        _hash(labels=(0, 1, 1, 1)),
        _hash(texts=("one", "two three", *TEXTS[2:])),
        _hash(texts=(TEXTS[1], TEXTS[0], *TEXTS[2:]), labels=(1, 0, 1, 0)),
        _hash(texts=TEXTS[:3], labels=(0, 1, 1)),
        _hash(texts=(("one", "two"), *TEXTS[1:])),
        _hash(texts=("One two", *TEXTS[1:])),
    ],
    ids=["a label", "a boundary", "the order", "a text less", "a pair", "a letter"],
)
def test_other_texts_or_labels_have_other_hashes(other: str) -> None:
    assert other != _hash()


def test_each_split_has_the_hash_of_its_texts_however_they_are_tokenized() -> None:
    """Also where texts are cut."""
    splits = [Texts([f"{name} text", "b"], np.array([0, 1], np.int32)) for name in ("train", "validation", "test")]
    corpus = Corpus("made", ["x", "y"], *splits)
    whole, cut = (
        encode_corpus(corpus, train_tokenizer(["a"], 257), 32),
        encode_corpus(corpus, train_tokenizer(["text text"], 300), 2),
    )
    assert len(whole.test.tokens[0]) > len(cut.test.tokens[0])
    for data in (whole, cut):
        assert [data.train.hash, data.validation.hash, data.test.hash] == list(map(hash_of_split, splits))
