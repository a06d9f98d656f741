"""Finds texts that make a score look better or worse than it is: repeated, contradicting, empty and cut ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from flax_agnews.data.rows import Text
from flax_agnews.data.sources import Texts
from flax_agnews.data.tokens import Ragged, Tokenizer, encode_cached

EXAMPLES = 10
"""Number of texts of a check that are listed."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text that a check is about.

    Attributes:
        text: its number in its split, from 0.
        where: its file and row, where they are known.
        other: the same of the text that it repeats or contradicts.
    """

    text: int
    where: str | None = None
    other: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Number of texts of a split that have something in common.

    Attributes:
        kind: `same` (also in the split `other`, unchanged), `alike` (the same but for case, spaces and punctuation;
            `same` ones are counted too), `contradicts` (one that is alike in `other` has another label), `empty` (white
            space alone; of a pair, one of the texts), `cut` (at `data.max_length`).
        split: the split of the texts, `train`, `validation` or `test`.
        other: the split that they are compared with; for texts that contradict each other, also their own.
        texts: how many there are.
        examples: the first ten.
    """

    kind: str
    split: str
    other: str | None = None
    texts: int
    examples: list[Example]


@dataclass(frozen=True)
class Finding:
    """A check and the numbers of its texts in their split, ascending, from 0."""

    check: DataCheck
    numbers: np.ndarray


def check_texts(splits: Mapping[str, Texts], cut: Mapping[str, np.ndarray]) -> list[Finding]:
    """Checks all splits, each alone and compared with those before it.

    Args:
        splits: name of a split -> its texts: train, validation, test.
        cut: name of a split -> numbers of the texts that were cut, from `cut_texts`.
    """
    exact = {name: hashes(split.texts) for name, split in splits.items()}
    alike = {name: hashes([normalized(text) for text in split.texts]) for name, split in splits.items()}
    # Texts without any word, such as "?!" and "...", are alike to none.
    worded = {name: alike[name] != hash(no_words(split)) for name, split in splits.items()}
    found = []
    for other, name in combinations(splits, 2):
        for kind, keys in (("same", exact), ("alike", alike)):
            partners = first_equal(keys[name], keys[other])
            if kind == "alike":
                partners[~worded[name]] = -1
            found.append(_finding(kind, splits, name, other, partners))
    for other, name in [*((name, name) for name in splits), *combinations(splits, 2)]:
        partners = first_contradicting(alike[name], splits[name].labels, alike[other], splits[other].labels)
        partners[~worded[name]] = -1
        found.append(_finding("contradicts", splits, name, other, partners))
    for name, split in splits.items():
        empty = np.array([not all(part.strip() for part in _parts(text)) for text in split.texts], bool)
        found.append(_finding("empty", splits, name, None, np.where(empty, 0, -1)))
        partners = np.full(len(split), -1)
        partners[cut[name]] = 0
        found.append(_finding("cut", splits, name, None, partners))
    return found


def cut_texts(tokenizer: Tokenizer, texts: Sequence[Text], tokens: Ragged, max_length: int) -> np.ndarray:
    """Numbers of the texts that were cut at `max_length` tokens, ascending; `tokens` are the texts' own."""
    full = np.flatnonzero(tokens.lengths == max_length)
    if tokens.truncated in (0, len(full)):
        return full[: tokens.truncated]
    longer = encode_cached(tokenizer, [texts[int(index)] for index in full], max_length + 1).lengths
    return full[longer > max_length]


def normalized(text: Text) -> Text:
    """A text's words in one case, with a space between them; of a pair, of both."""
    if isinstance(text, tuple):
        first, second = text
        return " ".join(_WORD.findall(first.casefold())), " ".join(_WORD.findall(second.casefold()))
    return " ".join(_WORD.findall(text.casefold()))


def no_words(split: Texts) -> Text:
    """The `normalized` form of a text, or pair, without words."""
    return ("", "") if split.texts and isinstance(split.texts[0], tuple) else ""


def hashes(texts: Sequence[Text]) -> np.ndarray:
    """A 64-bit hash of each text, [texts]: two of a million different texts share one with a probability of 3e-8."""
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def first_equal(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The first index in `theirs` of each value in `ours`; -1 where there is none."""
    order = np.argsort(theirs, kind="stable")
    place = np.minimum(np.searchsorted(theirs, ours, sorter=order), len(theirs) - 1)
    return np.where(theirs[order[place]] == ours, order[place], -1)


def first_contradicting(
    ours: np.ndarray, labels: np.ndarray, theirs: np.ndarray, their_labels: np.ndarray
) -> np.ndarray:
    """The first index in `theirs` of an equal value with another label, for each of `ours`; -1 where there is none."""
    known: dict[int, dict[int, int]] = {}  # value -> label -> first index
    for index in np.flatnonzero(np.isin(theirs, ours)):
        known.setdefault(int(theirs[index]), {}).setdefault(int(their_labels[index]), int(index))
    partners = np.full(len(ours), -1)
    for index in np.flatnonzero(np.isin(ours, theirs)):
        others = [first for label, first in known[int(ours[index])].items() if label != labels[index]]
        partners[index] = min(others, default=-1)
    return partners


def _finding(kind: str, splits: Mapping[str, Texts], name: str, other: str | None, partners: np.ndarray) -> Finding:
    """The finding of texts of a split with a partner; -1 is none."""
    numbers = np.flatnonzero(partners >= 0)
    examples = [
        Example(
            text=int(number),
            where=_place(splits[name], number),
            other=_place(splits[other], partners[number]) if other else None,
        )
        for number in numbers[:EXAMPLES]
    ]
    return Finding(DataCheck(kind=kind, split=name, other=other, texts=len(numbers), examples=examples), numbers)


def _place(split: Texts, number: int) -> str | None:
    return split.origins.at(number) if split.origins else None


def _parts(text: Text) -> Sequence[str]:
    return text if isinstance(text, tuple) else (text,)
