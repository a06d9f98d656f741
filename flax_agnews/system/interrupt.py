"""SIGINT and SIGTERM as a wish: finish the update, save, stop. A second SIGINT stops at once."""

import signal
import threading
from types import FrameType
from typing import Any, Protocol


class Agree(Protocol):
    """How several processes come to one answer."""

    def __call__(self, heard: int, now: bool = False) -> int:
        """The signal that all of them stop for, or 0, given the one that this process heard."""


class Stopped(Exception):
    """The experiment was asked to stop, and has.

    Attributes:
        where: in words.
        signal: that asked.
    """

    def __init__(self, where: str, signal: int) -> None:
        super().__init__(where, signal)
        self.where, self.signal = where, signal


class Interrupt:
    """A context in which the first signal only sets `asked`.

    Args:
        agree: with the other processes, where there are some; a signal then counts where all of them know of it.

    Attributes:
        asked: number of the signal to stop for, or 0.
    """

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
        """Whether to stop here; all processes ask at the same places, and get the same answer.

        Args:
            now: wait for what the others heard until now; else, until they last asked.
        """
        if self._agree:
            self.asked = self._agree(self._heard, now) or self.asked
        return bool(self.asked)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = number
        if not self._agree:
            self.asked = number
