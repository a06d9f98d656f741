"""A trained classifier: predicts classes and probabilities of texts; can be loaded, saved and exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Rows, Text, checked_texts
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.errors import UserError, shown
from flax_agnews.metrics.scores import softmax
from flax_agnews.strategies import StrategyLike
from flax_agnews.trained.exports import Exported, export_loaded
from flax_agnews.trained.loading import LoadedRun, load_run
from flax_agnews.trained.saved_run import save_run
from flax_agnews.training.inference import Inference


@dataclass(frozen=True)
class Answers:
    """A classifier's predictions for texts, in the order of the texts.

    Attributes:
        classes: names of all classes, in the order of the logits.
        logits: class scores of each text before the softmax, float32.
    """

    classes: list[str]
    logits: Float[np.ndarray, "texts classes"]

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def probabilities(self) -> Float[np.ndarray, "texts classes"]:
        """Probability of each class for each text: the softmax of the logits, computed in float64, as float32."""
        return softmax(self.logits).astype(np.float32)

    @cached_property
    def numbers(self) -> Int[np.ndarray, "texts"]:
        """Index in `classes` of each text's most probable class."""
        return self.logits.argmax(axis=1)

    @property
    def labels(self) -> list[str]:
        """Name of each text's most probable class."""
        return [self.classes[number] for number in self.numbers]


class Classifier:
    """A trained classifier: `Classifier.load(run).predict(texts)`, or `fit(...).classifier.predict(texts)`.

    Attributes:
        name: name of the run that trained it, `STRATEGY/seed-K`.
        classes: names of the classes, in the order of the logits.
        max_length: most tokens of a text; longer texts are cut, as in training.
        data: settings of the training data; with two text columns, the classifier takes pairs of texts.
    """

    def __init__(
        self,
        name: str,
        classes: list[str],
        max_length: int,
        data: DataConfig,
        tokenizer: Tokenizer,
        inference: Inference,
        run: LoadedRun | None = None,
    ) -> None:
        self.name, self.classes, self.max_length, self.data = name, classes, max_length, data
        self._tokenizer, self._inference, self._run = tokenizer, inference, run

    @classmethod
    def load(
        cls, run: str | Path, strategy: StrategyLike | None = None, model: str | Path | None = None
    ) -> "Classifier":
        """Loads a finished run: the weights of its best epoch, its body and its tokenizer.

        Args:
            run: folder of a run, `OUTPUT/STRATEGY/seed-K`; or of an experiment, OUTPUT, whose run with the best
                validation accuracy is loaded.
            strategy: the strategy that trained the run, where it isn't a registered one.
            model: hub id or directory of the body that the run started from, where it has moved; checked by hash.

        Raises:
            UserError: there is no such run, it isn't finished, or its body, tokenizer or strategy is missing or has
                changed since.
        """
        return cls.of_run(load_run(run, strategy, model=model))

    @classmethod
    def of_run(cls, run: LoadedRun) -> "Classifier":
        """Makes the classifier of a finished run that is in memory."""
        inference = Inference(run.model, run.params, run.frozen)
        return cls(run.name, run.classes, run.max_length, run.config.data, run.tokenizer, inference, run)

    @property
    def pairs(self) -> bool:
        """Whether the classifier takes pairs of texts instead of single texts."""
        return self.data.paired

    def predict(self, texts: Sequence[Text]) -> Answers:
        """Predicts the classes of texts with their probabilities; a text's result doesn't depend on the other texts.

        Args:
            texts: list of texts; for a classifier of pairs, list of tuples of two texts.

        Raises:
            UserError: an item isn't a text (or a pair of texts), or isn't valid Unicode.
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
            folder: an empty folder; created where it is missing.

        Returns:
            The folder, as an absolute path.

        Raises:
            UserError: the folder isn't empty, or can't be written.
        """
        return save_run(self._known_run, folder)

    def export(self, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
        """Exports the classifier to a format that other libraries load, and checks that its logits are the same.

        Args:
            to: `hf` (transformers), `peft` or `flaxgpt2`.
            folder: folder for the files; created where it is missing.
            overwrite: replace an earlier export in the folder.

        Raises:
            UserError: the format can't hold this classifier, or the folder isn't empty; nothing is written then.
        """
        return export_loaded(self._known_run, to, folder, overwrite=overwrite)

    @property
    def _known_run(self) -> LoadedRun:
        if self._run is None:
            raise UserError(f"{self.name}: was put together by hand; only a run's classifier can be saved or exported")
        return self._run
