"""The history of a run's numbers, and the journal that also writes them to the metrics file and the tracker."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from flax_agnews.metrics import scores
from flax_agnews.metrics.metrics_file import MetricsFile
from flax_agnews.metrics.trackers import NullTracker, Tracker

_USUAL, _FEWEST, _FAR = 50, 20, 8.0  # spikes: number of last losses to compare with, least number, standard deviations


@dataclass
class Scores:
    """How well a split was classified; all NaN if a logit is not finite.

    Attributes:
        loss: mean cross-entropy, nats.
        accuracy, macro_f1: 0 to 1.
        confusion: [true class][predicted class] counts; with more than `scores.LARGEST_TABLE` classes, in the sparse
            form of `scores.confusion_record`.
    """

    loss: float
    accuracy: float
    macro_f1: float
    confusion: list[list[int]] | dict[str, list[int]]


@dataclass
class History:
    """A run's numbers so far; serialisable as JSON, saved with every checkpoint.

    Attributes:
        train_loss, train_accuracy: means of each epoch's training batches, with dropout; the loss is the one that is
            minimised, with `train.class_weights` and `train.label_smoothing` (all other numbers are without).
        val_loss, val_accuracy, val_macro_f1: scores on the validation split after each epoch.
        best_epoch: the epoch (from 1) with the best validation accuracy, the earliest of equals; 0 before any.
        partial: sums over the current epoch: loss, weight, correct, texts, skipped, spikes.
        skipped: number of non-finite updates, which were skipped, by epoch.
        spikes: number of updates with a loss far above the usual (`is_spike`), by epoch.
        recent: losses of the last updates; None for skipped ones.
        first_skipped: where the first update was skipped, and what was not finite; empty if none was.
        fault: where the run had to stop, and what was not finite; empty if it didn't.
        lines: number of lines of the metrics file until now.
        train_seconds: time of updates, without compilation and evaluation; an equal share if runs train together.
        epoch_seconds: the same by epoch; fewer than epochs if earlier ones are unknown.
        tokens: tokens trained on, without padding.
        peak_memory_bytes: peak memory so far, of all runs that train together; None if unknown.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_macro_f1: list[float] = field(default_factory=list)
    best_epoch: int = 0
    partial: dict[str, float] = field(default_factory=dict)
    skipped: list[int] = field(default_factory=list)
    spikes: list[int] = field(default_factory=list)
    recent: list[float | None] = field(default_factory=list)
    first_skipped: str = ""
    fault: str = ""
    lines: int = 0
    train_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    peak_memory_bytes: int | None = None

    def end(self, where: str) -> None:
        """Records where the run had to stop, and what was not finite, unless it already stopped."""
        self.fault = self.fault or where

    def seconds_to(self, share: float) -> float | None:
        """Training seconds to the end of the first epoch with so good a validation accuracy; None if unknown.

        Args:
            share: the least accuracy, as a share of that of the best epoch, whose weights are kept.
        """
        if not self.best_epoch or len(self.epoch_seconds) != len(self.val_accuracy):
            return None
        least = share * self.val_accuracy[self.best_epoch - 1]
        epochs = next(number for number, value in enumerate(self.val_accuracy, start=1) if value >= least)
        return sum(self.epoch_seconds[:epochs])


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Loss, accuracy, macro-F1 and confusion matrix of logits [texts, classes] against labels [texts]."""
    if not np.isfinite(logits).all():
        return Scores(math.nan, math.nan, math.nan, [])
    answers = logits.argmax(-1)
    return Scores(
        loss=float(_losses(logits, labels).mean()),
        accuracy=float(scores.accuracy(labels, answers)),
        macro_f1=float(scores.macro_f1(labels, answers, logits.shape[1])),
        confusion=scores.confusion_record(labels, answers, logits.shape[1]),
    )


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each text in float64, in chunks, since with thousands of classes all take gigabytes."""
    from scipy.special import log_softmax  # slow to import, and commands that don't train never need it

    some = max(1, 10**6 // logits.shape[1])
    parts = [slice(start, start + some) for start in range(0, len(labels), some)]
    logs = (log_softmax(logits[part].astype(np.float64), axis=-1) for part in parts)
    return np.concatenate([-log[np.arange(len(log)), labels[part]] for log, part in zip(logs, parts, strict=True)])


def lost(metrics: Mapping[str, float]) -> str:
    """Names what was not finite in an update's metrics: `loss`, `gradient` or `loss and gradient`."""
    names = [name for key, name in (("loss", "loss"), ("grad_norm", "gradient")) if not math.isfinite(metrics[key])]
    return " and ".join(names)


def is_spike(loss: float, recent: Sequence[float | None], guessing: float) -> bool:
    """Whether a loss is a spike: above that of guessing, and 8 standard deviations above the median of recent losses.

    The standard deviation is estimated from the median absolute deviation, which spikes hardly change.
    """
    known = [other for other in recent if other is not None]
    if loss <= guessing or len(known) < _FEWEST:
        return False
    middle = median(known)
    return loss > middle + _FAR * 1.4826 * median(abs(other - middle) for other in known)


class Journal:
    """Writes a run's numbers into its history, its metrics file and its tracker.

    Args:
        history: the run's numbers so far; later lines of the metrics file are removed.
        steps_per_epoch: number of updates per epoch.
        classes: number of classes; guessing has their logarithm as its loss.
        path: metrics file, JSON lines, one per update and one per epoch; None for no file.
        tracker: also receives the metrics. After resuming it gets the earlier ones again, since a killed process may
            have lost some; it ignores those that it has.
    """

    def __init__(
        self, history: History, steps_per_epoch: int, classes: int, path: Path | None, tracker: Tracker | None
    ) -> None:
        self.history, self._steps_per_epoch, self._tracker = history, steps_per_epoch, tracker
        self._guessing = math.log(classes)
        self._file = MetricsFile(path, keep=history.lines) if path else None
        if self._file and tracker and not isinstance(tracker, NullTracker):
            self._catch_up(self._file, tracker)

    def _catch_up(self, file: MetricsFile, tracker: Tracker) -> None:
        """Sends the metrics that are in the file to the tracker."""
        for record in file.records():
            epoch = record.get("epoch")
            # null in the file was no finite number
            numbers = {name: math.nan if value is None else value for name, value in record.items() if "/" in name}
            if epoch is not None:
                numbers["epoch_time"] = self.history.epoch_seconds[epoch - 1]
            tracker.log(numbers, record["step"] if epoch is None else epoch * self._steps_per_epoch)

    def update(self, step: int, values: Mapping[str, Any]) -> None:
        """Records an update's metrics as the training step returned them; `step` counts from 1 over the whole run."""
        history, numbers = self.history, {name: float(value) for name, value in values.items()}
        loss, skipped = numbers["loss"] / numbers["weight"], bool(numbers["skipped"])
        spike = not skipped and is_spike(loss, history.recent, self._guessing)
        history.recent = [*history.recent, None if skipped else loss][-_USUAL:]
        sums = {} if skipped else {name: numbers[name] for name in ("loss", "weight", "correct", "texts")}
        for name, value in {**sums, "skipped": skipped, "spikes": spike}.items():
            history.partial[name] = history.partial.get(name, 0.0) + value
        if skipped:
            history.first_skipped = history.first_skipped or f"at step {step} ({lost(numbers)})"
            if history.recent == [None] * _USUAL:
                history.end(f"at step {step} (each of the last {_USUAL} updates)")
        marks = {name: True for name, found in (("skipped", skipped), ("spike", spike)) if found}
        record = {"batch/train_loss": loss, "batch/grad_norm": numbers["grad_norm"]}
        self._write("step", step, step, record, marks)

    def epoch(self, validation: Scores) -> bool:
        """Records an epoch with its validation scores; returns whether it is the best so far."""
        history, sums = self.history, self.history.partial
        history.partial = {}
        best = history.val_accuracy[history.best_epoch - 1] if history.best_epoch else -1.0
        better = validation.accuracy > best
        history.train_loss.append(sums.get("loss", math.nan) / sums.get("weight", math.nan))
        history.train_accuracy.append(sums.get("correct", math.nan) / sums.get("texts", math.nan))
        history.skipped.append(int(sums.get("skipped", 0)))
        history.spikes.append(int(sums.get("spikes", 0)))
        history.val_loss.append(validation.loss)
        history.val_accuracy.append(validation.accuracy)
        history.val_macro_f1.append(validation.macro_f1)
        history.epoch_seconds.append(history.train_seconds - sum(history.epoch_seconds))
        epoch = len(history.val_accuracy)
        if "weight" not in sums:
            history.end(f"in epoch {epoch} (each of its updates)")
        if math.isnan(validation.loss):
            history.end(f"after epoch {epoch} (validation logits)")
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
        self._write("epoch", epoch, step, record, marks={})
        if self._tracker:  # not in the file, which is reproducible
            self._tracker.log({"epoch_time": history.epoch_seconds[-1]}, step)
        return better

    def _write(self, unit: str, number: int, step: int, record: Mapping[str, float], marks: Mapping[str, bool]) -> None:
        if self._file:
            self._file.write({unit: number, **record, **marks})
            self.history.lines = self._file.lines
        if self._tracker:
            self._tracker.log(record, step)
