"""SIGINT and SIGTERM as a wish: finish the update, save, stop. A second SIGINT stops at once."""

import signal
import threading
from types import FrameType
from typing import Any


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

    Attributes:
        asked: the signal's number, or 0.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number
