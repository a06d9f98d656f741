"""A corpus as token ids: what training and evaluation read."""

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
    """Texts that train, validate or test.

    Attributes:
        tokens: ids of each text.
        labels: [texts] int32.
    """

    tokens: Ragged
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """All splits of a corpus.

    Attributes:
        name: of the source.
        classes: names; a label is an index.
        train, validation, test: splits.
        notes: how texts and labels were read, for the line about the data.
    """

    name: str
    classes: list[str]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()

    @property
    def truncated(self) -> int:
        """Texts of all splits that were longer than the most allowed."""
        return sum(split.tokens.truncated for split in (self.train, self.validation, self.test))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of every split's ids and labels, and of the class names."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for split in (self.train, self.validation, self.test):
            for array in (split.tokens.ids, split.tokens.offsets, split.labels):
                digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def class_texts(self) -> np.ndarray:
        """[classes] int64, training texts of each."""
        return np.bincount(self.train.labels, minlength=len(self.classes))

    @property
    def majority_accuracy(self) -> float:
        """Test accuracy of always answering the class that is most frequent in training."""
        return float((self.test.labels == self.class_texts.argmax()).mean())


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, max_length: int) -> Data:
    """Texts -> ids, from the disk's cache where it has them."""

    def split(texts: Texts) -> Split:
        return Split(encode_cached(tokenizer, texts.texts, max_length), np.asarray(texts.labels, np.int32))

    splits = (split(corpus.train), split(corpus.validation), split(corpus.test))
    return Data(corpus.name, corpus.classes, *splits, notes=(*corpus.notes, *_special_note(corpus, tokenizer)))


def _special_note(corpus: Corpus, tokenizer: Tokenizer) -> list[str]:
    """How the special tokens in the texts were read, where there are any."""
    found = [tokenizer.special_in(split.texts) for split in (corpus.train, corpus.validation, corpus.test)]
    count, names = sum(count for count, _ in found), set[str]().union(*(names for _, names in found))
    contain = "text contains" if count == 1 else "texts contain"
    read = "split as text" if tokenizer.special_tokens == "text" else "read as tokens"
    return (
        [f"{count:,} {contain} special tokens ({listed(map(shown, sorted(names)))}), {read} (--data.special_tokens)"]
        if count
        else []
    )
