"""A trained classifier, loaded from the folder of its run, which gives texts their classes and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Rows, Text, checked_texts
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.errors import UserError, shown
from flax_agnews.strategies import Entry, Strategy
from flax_agnews.trained.loading import load_run
from flax_agnews.training.inference import Inference


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to texts.

    Attributes:
        classes: names of the classes.
        logits: class scores of each text, before the softmax.
    """

    classes: list[str]
    logits: Float[np.ndarray, "texts classes"]

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def probabilities(self) -> Float[np.ndarray, "texts classes"]:
        """Probability of each class for each text, float32, computed in float64; a text's add up to 1."""
        return softmax(self.logits.astype(np.float64), axis=1).astype(np.float32)

    @cached_property
    def numbers(self) -> Int[np.ndarray, "texts"]:
        """Position among `classes` of each text's most probable class."""
        return self.logits.argmax(axis=1)

    @property
    def labels(self) -> list[str]:
        """The name of the most probable class of each text."""
        return [self.classes[number] for number in self.numbers]


class Classifier:
    """A trained classifier. `Classifier.load(run).predict(texts)`.

    Attributes:
        name: `STRATEGY/seed-K`, for people.
        classes: names of the classes, in the order of the probabilities.
        max_length: tokens of a text that are read; what is beyond is cut off, as in training.
        data: settings of the data that it was trained on; with two text columns, it answers pairs of texts.
    """

    def __init__(
        self,
        name: str,
        classes: list[str],
        max_length: int,
        data: DataConfig,
        tokenizer: Tokenizer,
        inference: Inference,
    ) -> None:
        self.name, self.classes, self.max_length, self.data = name, classes, max_length, data
        self._tokenizer, self._inference = tokenizer, inference

    @classmethod
    def load(
        cls, run: str | Path, strategy: Strategy | Entry | None = None, model: str | Path | None = None
    ) -> "Classifier":
        """The best weights of a finished run, on its body and with its tokenizer.

        Args:
            run: `OUTPUT/STRATEGY/seed-K`, or OUTPUT: of its runs the one with the best validation accuracy.
            strategy: that trained it, where it is none of the registered ones.
            model: the body that it was trained from, hub id or directory, where it has moved; compared by hash.

        Raises:
            UserError: no such run, it isn't finished, or what it was trained with isn't there or isn't the same.
        """
        loaded = load_run(run, strategy, model=model)
        inference = Inference(loaded.model, loaded.params, loaded.frozen)
        return cls(loaded.name, loaded.classes, loaded.max_length, loaded.config.data, loaded.tokenizer, inference)

    @property
    def pairs(self) -> bool:
        """Whether it answers pairs of texts."""
        return self.data.paired

    def predict(self, texts: Sequence[Text]) -> Answers:
        """Class and probabilities of each text, in this order; they don't depend on the other texts.

        Args:
            texts: of a classifier of pairs, tuples of two texts.

        Raises:
            UserError: something that is no text (or no pair of texts), or no valid Unicode.
        """
        if isinstance(texts, str):
            raise UserError("predict takes a list of texts, not one: predict([text])")
        checked = checked_texts(Rows("predict", texts, [], range(1, len(texts) + 1), "text")) if len(texts) else []
        if odd := [text for text in checked if isinstance(text, tuple) != self.pairs]:
            takes = "pairs of texts: (first, second)" if self.pairs else "texts, not pairs of them"
            raise UserError(f"predict: {shown(repr(odd[0]))}: {self.name} answers {takes}")
        return Answers(self.classes, self._inference.logits(self._tokenizer.encode(checked, self.max_length)))
