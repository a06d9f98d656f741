"""Loads texts and labels from the builtin corpus, local files or the hub; checks and splits them."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flax_agnews.config import DataConfig
from flax_agnews.data import builtin, files, hub, splits
from flax_agnews.data.labels import find_classes
from flax_agnews.data.rows import Found, Origins, Text, checked_texts
from flax_agnews.errors import UserError, flag


class Source(Protocol):
    """A module that loads one kind of data source."""

    def claims(self, source: str) -> bool:
        """Whether a value of `data.source` is of this kind."""

    def load(self, config: DataConfig) -> Found:
        """Reads the rows without checking texts and labels."""


SOURCES: tuple[Source, ...] = (builtin, files, hub)  # the first that claims a source loads it


@dataclass(frozen=True)
class Texts:
    """Texts of one split: `texts` (or pairs of them), unchanged, `labels`, [rows] int32, and where they come from."""

    texts: list[Text]
    labels: np.ndarray
    origins: Origins | None = None

    @property
    def strings(self) -> list[str]:
        """All strings: the texts, or both texts of each pair."""
        return [part for text in self.texts for part in ((text,) if isinstance(text, str) else text)]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: np.ndarray) -> "Texts":
        """The rows at `indices`, in that order."""
        origins = self.origins.take(indices) if self.origins else None
        return Texts([self.texts[index] for index in indices], self.labels[indices], origins)

    def first(self, limit: int | None) -> "Texts":
        """The first `limit` rows; all where it is None."""
        some = slice(limit)
        return Texts(self.texts[some], self.labels[some], self.origins.take(some) if self.origins else None)


@dataclass(frozen=True)
class Corpus:
    """A checked data set, ready for tokenization.

    Attributes:
        name: value of `data.source`.
        classes: class names, in the order of class numbers.
        train, validation, test: the splits.
        notes: remarks on how texts and labels were read, for display and report.
    """

    name: str
    classes: list[str]
    train: Texts
    validation: Texts
    test: Texts
    notes: tuple[str, ...] = ()


def load_corpus(config: DataConfig) -> Corpus:
    """Loads the data set that `config` names. UserError if something is wrong with it.

    The limits keep the first rows. If the source has no validation split, one is split off the (limited) training rows.
    If it has no labelled test split, `test_fraction` of all training rows, before the limits, becomes the test split.
    """
    if config.test_source is not None and not files.is_single_file(config.source):
        raise UserError(
            f"{flag('data.test_source')} is for a single file as {flag('data.source')}; {config.source} is none"
        )
    found = next(kind for kind in SOURCES if kind.claims(config.source)).load(config)
    found = splits.labelled(found, config)
    texts = {split: checked_texts(rows) for split, rows in found.splits.items()}
    others = [rows for split, rows in found.splits.items() if split != "train"]
    classes = find_classes(found.splits["train"], others, found.names, config.labels)
    parts = {split: Texts(texts[split], classes.numbers(rows), rows.origins) for split, rows in found.splits.items()}
    notes = [classes.why, *found.notes]
    if "test" not in parts:
        stay, held_out = splits.hold_out(len(parts["train"]), config)
        parts |= {"train": parts["train"].take(stay), "test": parts["train"].take(held_out)}
        notes.append(f"{len(held_out):,} of the training rows held out as test rows")
    train, validation = parts["train"].first(config.limit_train), parts.get("validation")
    if validation is None:
        train, validation = split_off(train, config.validation_fraction, config.split_seed)
    test = parts["test"].first(config.limit_test)
    return Corpus(config.source, list(classes.names), train, validation, test, tuple(notes))


def split_off(rows: Texts, fraction: float, seed: int) -> tuple[Texts, Texts]:
    """Splits off validation rows like `datasets.Dataset.train_test_split(test_size=fraction, seed=seed)`."""
    held_out = math.ceil(fraction * len(rows))
    if held_out >= len(rows):
        left = f"leaves none of {len(rows)} training rows to train on; lower it, or give more rows"
        raise UserError(f"{flag('data.validation_fraction')} {fraction}: {left}")
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows.take(order[held_out:]), rows.take(order[:held_out])
