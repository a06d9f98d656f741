"""A trained classifier: answers texts with classes and their probabilities; can be loaded, saved and exported."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.special import softmax

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Rows, Text, checked_texts
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.errors import UserError, shown
from flax_agnews.strategies import Entry, Strategy
from flax_agnews.trained.exports import Exported, export_run
from flax_agnews.trained.loading import Parts, load_parts
from flax_agnews.trained.saved_run import save_run
from flax_agnews.training.inference import Inference


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to texts, in the order of the texts.

    Attributes:
        classes: names of all classes, in the order of the logits.
        logits: [texts, classes] float32.
    """

    classes: list[str]
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """[texts, classes] float32, probabilities of the classes; each text's add up to 1."""
        return softmax(self.logits.astype(np.float64), axis=1).astype(np.float32)

    @cached_property
    def numbers(self) -> np.ndarray:
        """[texts] int64, the number of each text's most probable class, from 0."""
        return self.logits.argmax(axis=1)

    @property
    def labels(self) -> list[str]:
        """The name of the most probable class of each text."""
        return [self.classes[number] for number in self.numbers]


class Classifier:
    """A trained classifier: `Classifier.load(run).predict(texts)`, or `fit(...).classifier.predict(texts)`.

    Attributes:
        name: of the run that trained it, `STRATEGY/seed-K`.
        classes: names of the classes, in the order of the probabilities.
        max_length: most tokens of a text that are read; longer texts are cut, as in training.
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
        run: Parts | None = None,
    ) -> None:
        self.name, self.classes, self.max_length, self.data = name, classes, max_length, data
        self._tokenizer, self._inference, self._run = tokenizer, inference, run

    @classmethod
    def load(
        cls, run: str | Path, strategy: Strategy | Entry | None = None, model: str | Path | None = None
    ) -> "Classifier":
        """Loads the best weights of a finished run, with its body and its tokenizer.

        Args:
            run: folder of a run, `OUTPUT/STRATEGY/seed-K`, or of an experiment, OUTPUT: then its run with the best
                validation accuracy.
            strategy: the strategy that trained it, where it isn't a registered one.
            model: the body that it was trained from, hub id or directory, where it has moved; compared by hash.

        Raises:
            UserError: there is no such run, it isn't finished, or its body, tokenizer or strategy is missing or isn't
                the one of then.
        """
        return cls.of_run(load_parts(run, strategy, model=model))

    @classmethod
    def of_run(cls, run: Parts) -> "Classifier":
        """The classifier of a finished run that is in memory."""
        inference = Inference(run.setup, run.params, run.frozen)
        return cls(run.name, run.classes, run.max_length, run.config.data, run.tokenizer, inference, run)

    @property
    def pairs(self) -> bool:
        """Whether it answers pairs of texts, instead of texts."""
        return self.data.paired

    def predict(self, texts: Sequence[Text]) -> Answers:
        """Answers texts with their classes and probabilities; an answer doesn't depend on the other texts.

        Args:
            texts: a list of texts; for a classifier of pairs, of tuples of two texts.

        Raises:
            UserError: one of them isn't a text (or pair of texts), or isn't valid Unicode.
        """
        if isinstance(texts, str):
            raise UserError("predict takes a list of texts, not one: predict([text])")
        checked = checked_texts(Rows("predict", texts, [], range(1, len(texts) + 1), "text")) if len(texts) else []
        if odd := [text for text in checked if isinstance(text, tuple) != self.pairs]:
            takes = "pairs of texts: (first, second)" if self.pairs else "texts, not pairs of them"
            raise UserError(f"predict: {shown(repr(odd[0]))}: {self.name} answers {takes}")
        return Answers(self.classes, self._inference.logits(self._tokenizer.encode(checked, self.max_length)))

    def save(self, folder: str | Path) -> Path:
        """Saves the classifier; `Classifier.load(folder)` and the commands predict, evaluate and export read it.

        Args:
            folder: where to; it must be empty, or is made.

        Returns:
            The folder, as an absolute path.

        Raises:
            UserError: the folder holds something, or can't be written.
        """
        return save_run(self._known_run, folder)

    def export(self, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
        """Exports the classifier to a format that other libraries load; the export is read again and compared.

        Args:
            to: `hf` (transformers), `peft` or `flaxgpt2`.
            folder: for its files; made where it is missing.
            overwrite: replace an earlier export in it.

        Raises:
            UserError: the format can't hold it, or the folder holds something; then nothing is written.
        """
        with tempfile.TemporaryDirectory(prefix="flax_agnews-") as temporary:
            saved = save_run(self._known_run, Path(temporary) / "run")
            return export_run(saved, to, folder, overwrite=overwrite, strategy=self._known_run.setup.strategy)

    @property
    def _known_run(self) -> Parts:
        if self._run is None:
            raise UserError(f"{self.name}: was put together by hand; only a run's classifier can be saved or exported")
        return self._run
