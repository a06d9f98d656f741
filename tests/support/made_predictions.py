"""Made-up predictions with known accuracies, as evidence for an answer and as files of an output folder."""

from collections.abc import Mapping, Sequence

import numpy as np

from flax_agnews.report.evidence import Evidence
from flax_agnews.runs.predictions import Predictions, SplitPredictions
from flax_agnews.runs.references import Reference

CLASSES = ["World", "Sports"]
LABELS = {"validation": np.arange(200, dtype=np.int32) % 2, "test": np.arange(1000, dtype=np.int32) % 2}


def predictions(accuracy: float, key: Sequence[int] = (0,), hash: str = "texts") -> Predictions:
    """Right on that share of each split's texts exactly, which ones is drawn from `key`; at 0.9 or 0.1 probability."""
    splits = {}
    for number, (name, labels) in enumerate(LABELS.items()):
        rng = np.random.default_rng([number, *key])
        right = rng.permutation(len(labels)) < round(accuracy * len(labels))
        answers = np.where(right, labels, 1 - labels)
        splits[name] = SplitPredictions(hash, labels, np.where(np.eye(2)[answers] > 0, 0.9, 0.1).astype(np.float32))
    return Predictions(CLASSES, splits)


def reference(accuracy: float, name: str) -> Reference:
    """A reference of known accuracy."""
    found = predictions(accuracy, [ord(name[0])])
    return Reference(key="key", seconds=1.5, parameters=1234, settings={}, tried=[], predictions=found)


def evidence(accuracies: Mapping[str, Sequence[float]], references: Mapping[str, float] | None = None) -> Evidence:
    """Evidence in which strategy s reached `accuracies[s][k]` with seed 42 + k."""
    runs = {
        name: {42 + k: predictions(score, [number, k]) for k, score in enumerate(scores)}
        for number, (name, scores) in enumerate(accuracies.items(), start=1)
    }
    return Evidence(runs, {title: reference(score, title) for title, score in (references or {}).items()})
