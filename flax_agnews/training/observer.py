"""How training and caching say how far they are, and are asked to stop."""

from collections.abc import Sequence

from flax_agnews.training.history import History


class Interrupted(Exception):
    """Training or caching was asked to stop, has saved what it could, and has stopped.

    Attributes:
        step: updates that are saved; 0 where nothing could be.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Observer:
    """Is called by runs that train together, by language modelling and by caching; each method does nothing here."""

    def note(self, text: str) -> None:
        """Takes a message for people."""

    def step(self, done: float, tokens_per_second: float) -> None:
        """After every update, or every batch that is cached.

        Args:
            done: epochs that are done, with a fraction; of caching, the share that is done.
            tokens_per_second: of all runs that train together.
        """

    def epoch(self, epoch: int, histories: Sequence[History]) -> None:
        """After an epoch's evaluation.

        Args:
            epoch: its number, from 1.
            histories: of every run; that of a run that ended before stays as it was.
        """

    def ended(self, number: int, history: History) -> None:
        """After `epoch`, when the run of that number has ended early."""

    def resumed(self, step: int, inexact: str | None) -> None:
        """When training goes on from a checkpoint.

        Args:
            step: updates that were done before.
            inexact: why the result may differ in the last digits from that of an uninterrupted run; None: it doesn't.
        """

    def caching(self, text: str) -> None:
        """Before the output of frozen layers is computed, which may take long; `text` says how much it is."""

    def cached(self) -> None:
        """After the output of frozen layers was computed."""

    def should_stop(self) -> bool:
        """Whether to save and stop after this update or batch."""
        return False
