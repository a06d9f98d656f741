"""A tokenized data set: token ids and labels of the splits for training, validation and test."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flax_agnews.data.sources import Corpus, Texts
from flax_agnews.data.tokens import Ragged, Tokenizer, encode_cached
from flax_agnews.errors import listed, shown


@dataclass(frozen=True)
class Split:
    """Tokenized texts and labels of one split.

    Attributes:
        tokens: token ids of each text.
        labels: [texts] int32, class numbers.
        hash: SHA-256 of the texts, before tokenization, and of the labels; empty where the texts aren't known.
    """

    tokens: Ragged
    labels: np.ndarray
    hash: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """All splits of a tokenized corpus.

    Attributes:
        name: name of the data set.
        classes: class names, in the order of class numbers.
        train, validation, test: the splits.
        notes: remarks on how texts and labels were read, for display and report.
    """

    name: str
    classes: list[str]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()

    @property
    def truncated(self) -> int:
        """Number of texts, in all splits, that were cut at the length limit."""
        return sum(split.tokens.truncated for split in (self.train, self.validation, self.test))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of token ids and labels of all splits, and of the class names."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for split in (self.train, self.validation, self.test):
            for array in (split.tokens.ids, split.tokens.offsets, split.labels):
                digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def class_texts(self) -> np.ndarray:
        """Number of training texts of each class: [classes] int64."""
        return np.bincount(self.train.labels, minlength=len(self.classes))

    @property
    def majority_accuracy(self) -> float:
        """Test accuracy of always predicting the most frequent class of the training texts."""
        return float((self.test.labels == self.class_texts.argmax()).mean())


def hash_of_split(texts: Texts) -> str:
    """SHA-256 of the texts of a split and their class numbers, in their order; equal for every tokenizer."""
    return hashlib.sha256(json.dumps([texts.texts, texts.labels.tolist()]).encode()).hexdigest()


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, max_length: int) -> Data:
    """Tokenizes a corpus, or reads its token ids from the cache on disk."""

    def split(texts: Texts) -> Split:
        tokens, labels = encode_cached(tokenizer, texts.texts, max_length), np.asarray(texts.labels, np.int32)
        return Split(tokens, labels, hash_of_split(texts))

    splits = (split(corpus.train), split(corpus.validation), split(corpus.test))
    return Data(corpus.name, corpus.classes, *splits, notes=(*corpus.notes, *_special_note(corpus, tokenizer)))


def _special_note(corpus: Corpus, tokenizer: Tokenizer) -> list[str]:
    """A remark on how special tokens in the texts were read, in a list; empty if there are none."""
    found = [tokenizer.special_in(split.texts) for split in (corpus.train, corpus.validation, corpus.test)]
    count, names = sum(count for count, _ in found), set[str]().union(*(names for _, names in found))
    contain = "text contains" if count == 1 else "texts contain"
    read = "split as text" if tokenizer.special_tokens == "text" else "read as tokens"
    return (
        [f"{count:,} {contain} special tokens ({listed(map(shown, sorted(names)))}), {read} (--data.special_tokens)"]
        if count
        else []
    )
