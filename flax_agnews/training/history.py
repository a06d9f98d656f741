"""What a run has been through: its numbers by epoch, and where each of them is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from flax_agnews import statistics
from flax_agnews.metrics import MetricsFile
from flax_agnews.tracking import Tracker


@dataclass
class Scores:
    """How well a split was classified.

    Attributes:
        loss: mean cross-entropy, nats.
        accuracy, macro_f1: 0 to 1.
        confusion: [true class][answered class] counts.
    """

    loss: float
    accuracy: float
    macro_f1: float
    confusion: list[list[int]]


@dataclass
class History:
    """What a run has been through: JSON-able, saved with every checkpoint.

    Attributes:
        train_loss, train_accuracy: of each epoch's batches as they trained, dropout on.
        val_loss, val_accuracy, val_macro_f1: after each epoch.
        best_epoch: the epoch (from 1) with the best validation accuracy, the earliest of equals; 0 before any.
        partial: sums of the epoch under way: loss, correct, weight.
        lines: of the metrics file that belong to the state.
        train_seconds: spent on updates, compilation and evaluation apart; an equal share where runs train together.
        epoch_seconds: the same by epoch.
        tokens: real ones, trained on.
        peak_memory_bytes: the most so far, of all runs that train together.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_macro_f1: list[float] = field(default_factory=list)
    best_epoch: int = 0
    partial: dict[str, float] = field(default_factory=dict)
    lines: int = 0
    train_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    peak_memory_bytes: int | None = None


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Loss, accuracy, macro-F1 and confusion matrix of logits [texts, classes] against labels [texts]."""
    answers = logits.argmax(-1)
    losses = -log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]
    return Scores(
        loss=float(losses.mean()),
        accuracy=float(statistics.accuracy(labels, answers)),
        macro_f1=float(statistics.macro_f1(labels, answers, logits.shape[1])),
        confusion=np.asarray(statistics.confusion(labels, answers, logits.shape[1])).astype(int).tolist(),
    )


class Journal:
    """Takes a run's numbers: into its history, its metrics file and its tracker.

    Args:
        history: so far; lines of the metrics file that it doesn't know are cut off.
        steps_per_epoch: updates an epoch.
        path: of the metrics file: JSON lines, one an update and one an epoch.
        tracker: other places for metrics.
    """

    def __init__(self, history: History, steps_per_epoch: int, path: Path | None, tracker: Tracker | None) -> None:
        self.history, self._steps_per_epoch, self._tracker = history, steps_per_epoch, tracker
        self._file = MetricsFile(path, keep=history.lines) if path else None

    def update(self, step: int, values: Mapping[str, Any]) -> None:
        """An update's metrics, as the step returned them; `step` counts from 1 over the whole run."""
        numbers = {name: float(value) for name, value in values.items()}
        for name in ("loss", "correct", "weight"):
            self.history.partial[name] = self.history.partial.get(name, 0.0) + numbers[name]
        loss = numbers["loss"] / numbers["weight"]
        self._write("step", step, step, {"batch/train_loss": loss, "batch/grad_norm": numbers["grad_norm"]})

    def epoch(self, validation: Scores) -> bool:
        """Closes an epoch with its validation scores; returns whether it is the best so far."""
        history, sums = self.history, self.history.partial
        history.partial = {}
        better = not history.val_accuracy or validation.accuracy > max(history.val_accuracy)
        history.train_loss.append(sums["loss"] / sums["weight"])
        history.train_accuracy.append(sums["correct"] / sums["weight"])
        history.val_loss.append(validation.loss)
        history.val_accuracy.append(validation.accuracy)
        history.val_macro_f1.append(validation.macro_f1)
        history.epoch_seconds.append(history.train_seconds - sum(history.epoch_seconds))
        epoch = len(history.val_accuracy)
        if better:
            history.best_epoch = epoch
        record = {
            "train/loss": history.train_loss[-1],
            "train/accuracy": history.train_accuracy[-1],
            "val/loss": validation.loss,
            "val/accuracy": validation.accuracy,
            "val/macro_f1": validation.macro_f1,
        }
        step = epoch * self._steps_per_epoch
        self._write("epoch", epoch, step, record)
        if self._tracker:  # not in the file, which is the same for the same run
            self._tracker.log({"epoch_time": history.epoch_seconds[-1]}, step)
        return better

    def _write(self, unit: str, number: int, step: int, record: Mapping[str, float]) -> None:
        if self._file:
            self._file.write({unit: number, **record})
            self.history.lines = self._file.lines
        if self._tracker:
            self._tracker.log(record, step)
