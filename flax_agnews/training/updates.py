"""The loop over updates that runs and language modelling share: when metrics are read, when to save, where to stop."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from flax_agnews.training.observer import Interrupted, Observer
from flax_agnews.training.saving import Saving


class Training(Protocol):
    """What the loop trains: a strategy's runs (`Group`), or the body as a language model (`LanguageModelling`).

    Attributes:
        step: updates so far.
        inexact: why what follows a resumed state may differ in the last digits; None where it doesn't.
    """

    step: int
    inexact: str | None

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""

    @property
    def bytes(self) -> int:
        """Size of a checkpoint."""

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""

    def update(self, epoch: int, index: int) -> Mapping[str, Any]:
        """Makes the update `index` of an epoch; its metrics stay on the device until `read` has them."""

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of an update; `step` counts from 1."""

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Notes how long an update took; returns how many tokens it trained on."""

    def end_epoch(self, epoch: int, last: bool, observer: Observer) -> None:
        """Ends an epoch, all of whose metrics are read; `last` of those that are planned."""

    def save(self, saving: Saving) -> None:
        """Saves a checkpoint, in the background."""


def train_epochs(training: Training, epochs: int, saving: Saving | None, observer: Observer) -> None:
    """Makes all updates that are left; a save may still be under way afterwards.

    Args:
        training: from where its checkpoint left off.
        epochs: how many are planned, those that are done included.
        saving: when to save checkpoints; None: never.
        observer: for displays and interruption.

    Raises:
        Interrupted: `observer` asked to stop; a checkpoint is saved.
        UserError: a checkpoint could not be saved, where `saving` stops then.
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
    """Makes the updates of an epoch that are left. Each update's metrics are read while the next one runs."""
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
        if stop or due or last:  # everything is read, so that what is saved is complete
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
    """Saves a checkpoint and waits for it; its step, or 0 where that failed."""
    if not saving:
        return 0
    training.save(saving)
    return training.step if saving.wait() else 0
