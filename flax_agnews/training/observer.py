"""The interface by which training and caching report progress and can be interrupted."""

from collections.abc import Sequence

from flax_agnews.training.history import History


class Interrupted(Exception):
    """Raised when training or caching stops because its observer asked for it, after saving what is possible.

    Attributes:
        step: number of updates that are saved; 0 if nothing could be saved.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Observer:
    """Base class of observers, called by training, language modelling and caching; its methods do nothing."""

    def note(self, text: str) -> None:
        """Called with a message for the user."""

    def step(self, done: float, tokens_per_second: float) -> None:
        """Called after every update, or every batch that is cached.

        Args:
            done: number of finished epochs, with a fraction; in caching, the share that is done.
            tokens_per_second: speed, of all runs that train together.
        """

    def epoch(self, epoch: int, histories: Sequence[History]) -> None:
        """Called after an epoch's evaluation.

        Args:
            epoch: number of the epoch, from 1.
            histories: history of every run; it no longer changes for a run that has ended early.
        """

    def ended(self, number: int, history: History) -> None:
        """Called after `epoch` when run `number` of the group (from 0) has ended early."""

    def resumed(self, step: int, inexact: str | None) -> None:
        """Called when training is resumed from a checkpoint.

        Args:
            step: number of updates done before.
            inexact: why results may differ in the last digits from those of an uninterrupted run; None if they don't.
        """

    def caching(self, text: str) -> None:
        """Called before the output of frozen layers is computed, which may take long; `text` says how much there is."""

    def cached(self) -> None:
        """Called after the output of frozen layers was computed."""

    def should_stop(self) -> bool:
        """Whether to save and stop after this update or batch."""
        return False
