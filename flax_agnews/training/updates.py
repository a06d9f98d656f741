"""The loop over updates, shared by strategies and language modelling: reads metrics, saves checkpoints, stops."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from flax_agnews.training.observer import Interrupted, Observer
from flax_agnews.training.saving import Saving


class Training(Protocol):
    """Interface of what the loop trains: runs of a strategy (`Group`), or a language model (`LanguageModelling`).

    Attributes:
        step: number of updates so far.
        inexact: why the numbers after resuming may differ in the last digits; None if they don't.
    """

    step: int
    inexact: str | None

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates per epoch."""

    @property
    def bytes(self) -> int:
        """Size of a checkpoint in bytes."""

    @property
    def over(self) -> bool:
        """Whether training ends before the planned epochs."""

    def update(self, epoch: int, index: int) -> Mapping[str, Any]:
        """Makes the update `index` of an epoch; its metrics stay on the device until `read` fetches them."""

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Records the metrics of an update; `step` counts from 1."""

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Records the time of an update in seconds; returns the number of tokens in it."""

    def end_epoch(self, epoch: int, last: bool, observer: Observer) -> None:
        """Ends epoch `epoch` (from 0), after all its metrics are read; `last` if it is the last planned one."""

    def save(self, saving: Saving) -> None:
        """Saves a checkpoint, in the background."""


def train_epochs(training: Training, epochs: int, saving: Saving | None, observer: Observer) -> None:
    """Makes all remaining updates; a save may still be in progress afterwards.

    Args:
        training: the training, new or resumed.
        epochs: number of planned epochs, including finished ones.
        saving: when to save checkpoints; None for never.
        observer: receives progress, and may interrupt.

    Raises:
        Interrupted: `observer` asked to stop; a checkpoint is saved.
        UserError: a checkpoint could not be saved, and `saving` stops then.
    """
    if training.step:
        observer.resumed(training.step, training.inexact)
    if saving:
        saving.begin(training.bytes)
    for epoch in range(training.step // training.steps_per_epoch, epochs):
        if training.over:
            return
        _train_epoch(training, epoch, saving, observer)
        last = epoch + 1 == epochs
        training.end_epoch(epoch, last, observer)
        if saving and (saving.final if last else saving.due(training.step)) and not training.over:
            training.save(saving)


def _train_epoch(training: Training, epoch: int, saving: Saving | None, observer: Observer) -> None:
    """Makes the remaining updates of an epoch. Each update's metrics are read while the next one runs."""
    per_epoch = training.steps_per_epoch
    before, tokens, seconds = time.perf_counter(), 0, 0.0
    waiting: tuple[int, Mapping[str, Any]] | None = None
    for index in range(training.step - epoch * per_epoch, per_epoch):
        metrics = training.update(epoch, index)
        if waiting:
            training.read(*waiting)
        waiting = (training.step, metrics)
        stop, last = observer.should_stop(), index == per_epoch - 1
        due = saving and not last and saving.due(training.step)
        if stop or due or last:  # read now, so that the checkpoint is complete
            training.read(*waiting)
            waiting = None
        elapsed = time.perf_counter() - before
        before, seconds, tokens = before + elapsed, seconds + elapsed, tokens + training.count(epoch, index, elapsed)
        observer.step(epoch + (index + 1) / per_epoch, tokens / seconds)
        if stop and not last:
            raise Interrupted(_saved(training, saving))
        if saving:
            saving.check()
        if saving and due:
            training.save(saving)
            before = time.perf_counter()


def _saved(training: Training, saving: Saving | None) -> int:
    """Saves a checkpoint and waits for it; returns its step, or 0 if that failed."""
    if not saving:
        return 0
    training.save(saving)
    return training.step if saving.wait() else 0
