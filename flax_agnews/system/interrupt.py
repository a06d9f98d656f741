"""Handles SIGINT and SIGTERM: training finishes its update, saves and stops; a second SIGINT stops at once."""

import signal
import threading
from types import FrameType
from typing import Any, Protocol


class Agree(Protocol):
    """A function with which several processes agree on whether to stop, and for which signal."""

    def __call__(self, heard: int, now: bool = False) -> int:
        """Returns the number of the signal that all processes stop for, or 0.

        Args:
            heard: number of the signal that this process received, or 0.
            now: as in `Interrupt.check`.
        """


class Stopped(Exception):
    """Raised when the experiment has stopped after a signal.

    Attributes:
        where: where in the experiment it stopped, in words.
        signal: number of the signal.
    """

    def __init__(self, where: str, signal: int) -> None:
        super().__init__(where, signal)
        self.where, self.signal = where, signal


class Interrupt:
    """A context in which the first signal only sets `asked`, and the program stops where it calls `check`.

    Args:
        agree: agrees with other processes, if there are any; a signal counts once all of them know of it.

    Attributes:
        asked: number of the signal to stop for, or 0.
        given_up: whether to stop because another job has failed.
    """

    given_up = False

    def __init__(self, agree: Agree | None = None) -> None:
        self.asked = self._heard = 0
        self._agree = agree
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, now: bool = False) -> bool:
        """Whether to stop here. All processes call it at the same points and get the same answer.

        Args:
            now: count signals that other processes received up to now, which waits for them; by default, up to their
                previous call.
        """
        if self._agree:
            self.asked = self._agree(self._heard, now) or self.asked
        return bool(self.asked) or self.given_up

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = number
        if not self._agree:
            self.asked = number
