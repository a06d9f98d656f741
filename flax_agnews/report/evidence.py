"""Reads what an output folder keeps of every validation and test text: predictions of runs and of references."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from flax_agnews.errors import UserError, listed
from flax_agnews.report.unfinished import unfinished
from flax_agnews.runs.predictions import Predictions, read_predictions
from flax_agnews.runs.references import MAJORITY, PROBE, TFIDF, Reference, read_references
from flax_agnews.runs.results import Results
from flax_agnews.statistics.outcomes import Outcomes, accuracy_outcomes, loss_outcomes, macro_f1_outcomes
from flax_agnews.system.text import counted

TITLES: Mapping[str, str] = {TFIDF: "TF-IDF", PROBE: "linear probe", MAJORITY: "majority class"}
"""Names of the references in tables and pictures."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Answers:
    """What all runs of a strategy answered to a split's texts.

    Attributes:
        labels: [texts] class numbers.
        probabilities: [seeds, texts, classes] float32.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @cached_property
    def classes(self) -> np.ndarray:
        """The predicted class numbers, [seeds, texts]."""
        return self.probabilities.argmax(axis=-1)

    @property
    def wrong(self) -> np.ndarray:
        """Where the answer is wrong, [seeds, texts]."""
        return self.classes != self.labels


@dataclass(frozen=True)
class Evidence:
    """Predictions on the same texts, from which scores, intervals and differences are computed.

    Attributes:
        runs: strategy -> seed -> predictions; only strategies of which every run has them.
        references: title of a reference -> the reference.
        notes: sentences on runs and predictions that are missing, and why.
    """

    runs: Mapping[str, Mapping[int, Predictions]]
    references: Mapping[str, Reference]
    notes: tuple[str, ...] = ()
    _stacked: dict[tuple[str, str], Answers] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> list[str]:
        """Names of the strategies, then titles of the references."""
        return [*self.runs, *self.references]

    def seeds(self, name: str) -> list[int] | None:
        """Seeds of a strategy's runs; None for a reference, which has no randomness."""
        return list(self.runs[name]) if name in self.runs else None

    def split(self, name: str, split: str) -> Answers:
        """What all runs of a strategy, or a reference, answered to a split's texts."""
        if (name, split) not in self._stacked:
            of = self.runs[name].values() if name in self.runs else [self.references[name].predictions]
            parts = [one.splits[split] for one in of]
            whole = np.stack([part.probabilities for part in parts])
            self._stacked[name, split] = Answers(parts[0].labels, whole)
        return self._stacked[name, split]

    def accuracy(self, name: str, split: str = "test") -> Outcomes:
        """Which texts the runs got right."""
        found = self.split(name, split)
        return accuracy_outcomes(found.labels, found.classes, self.seeds(name))

    def macro_f1(self, name: str, split: str = "test") -> Outcomes:
        """Contributions of the texts to macro-F1."""
        found = self.split(name, split)
        return macro_f1_outcomes(found.labels, found.classes, found.probabilities.shape[-1], self.seeds(name))

    def loss(self, name: str, split: str = "test") -> Outcomes:
        """Loss of each text, nats."""
        found = self.split(name, split)
        return loss_outcomes(found.labels, found.probabilities, self.seeds(name))


NOTHING = Evidence({}, {})


def read_evidence(folder: Path, results: Results) -> Evidence:
    """Reads the predictions of an output folder's finished runs and of its references.

    A damaged file, or one of other texts than most, costs its strategy the intervals and is named in a note.
    """
    notes = unfinished(folder, results)
    found = {
        name: {run.seed: _read(partial(read_predictions, folder, name, run.seed), notes) for run in runs}
        for name, runs in results.by_strategy.items()
    }
    references = _read(partial(read_references, folder), notes) or {}
    texts = Counter(hashes(one) for name in found for one in found[name].values() if one)
    same = texts.most_common(1)[0][0] if texts else None
    kept = {
        name: {seed: one for seed, one in runs.items() if one}
        for name, runs in found.items()
        if all(one and hashes(one) == same for one in runs.values())
    }
    notes += _missing({name: runs for name, runs in found.items() if name not in kept})
    titled = {TITLES[name]: one for name, one in references.items() if same in (None, hashes(one.predictions))}
    titled = {name: one for name, one in titled.items() if name not in kept}  # somebody's strategy may be called TF-IDF
    return Evidence(kept, titled, tuple(notes))


def hashes(predictions: Predictions) -> tuple[str, ...]:
    """What must be equal for predictions to be paired: classes, and the hashes of texts and labels."""
    return (*predictions.classes, *(f"{name} {part.hash}" for name, part in predictions.splits.items()))


def _read(reader: Callable[[], Found], notes: list[str]) -> Found | None:
    try:
        return reader()
    except UserError as error:
        notes.append(f"{error}.")
        return None


def _missing(found: Mapping[str, Mapping[int, Predictions | None]]) -> Iterator[str]:
    """A sentence on strategies without predictions, and one on those with predictions of other texts."""
    without = [name for name, runs in found.items() if not all(runs.values())]
    if without:
        runs = counted(sum(not one for name in without for one in found[name].values()), "run")
        yield (
            f"No predictions of texts are kept of {runs} of {listed(without)}, which an earlier version finished: "
            "no intervals and ranks for them."
        )
    if other := [name for name in found if name not in without]:
        yield f"The runs of {listed(other)} were tested on other texts, and can't be compared with the rest."
