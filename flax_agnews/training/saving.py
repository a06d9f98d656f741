"""When training state is saved, and that nobody waits for it."""

import threading
import time
from collections.abc import Callable, Sequence

from flax_agnews.errors import first_line
from flax_agnews.units import count, words_duration

_FIRST_GUESS = 200e6  # bytes a second that a first save is expected to write; any later one is as dear as those before
_MOST = ", the most that a crash can lose"


class Saving:
    """Saves in the background, one save after another, as often as costs at most a share of the time.

    What a save costs is the time that training waits for the copy, and all of the time that writing takes beside it, as
    if nothing else had got done meanwhile: the most that it can be.

    Args:
        every_steps: saves after every so many updates instead; 0 is as often as the share allows.
        share: of the time that saving may cost.
        note: told what failed, and once how often is saved.
        final: saves after the last update too, so that a finished run can go on.
    """

    def __init__(
        self,
        every_steps: int = 0,
        share: float = 0.01,
        note: Callable[[str], None] = lambda text: None,
        final: bool = False,
    ) -> None:
        self.every_steps, self.share, self._note, self.final = every_steps, share, note, final
        self._thread: threading.Thread | None = None
        self._succeeded = True
        self._last = time.perf_counter()
        self.cost = 0.0  # seconds, of the last save: what follows it pays for it
        self.saves, self.spent = 0, 0.0

    def begin(self, size: int) -> None:
        """When a run begins or goes on: bytes of a save."""
        self._last = time.perf_counter()
        if self.saves or self.every_steps:
            return
        if not self.cost:
            often = words_duration(max(1.0, size / _FIRST_GUESS / self.share))
            self._note(f"{count(size)}B are saved about every {often}{_MOST}")
        self.cost = size / _FIRST_GUESS

    @property
    def interval(self) -> float:
        """Seconds between two saves, where these are chosen by what they cost."""
        return self.cost / self.share

    def due(self, step: int) -> bool:
        """Whether to save after this update."""
        if self.every_steps:
            return step % self.every_steps == 0
        return self.idle and time.perf_counter() - self._last >= self.interval

    @property
    def idle(self) -> bool:
        """Whether no save is under way."""
        return self._thread is None or not self._thread.is_alive()

    def save(self, what: str, copy: Callable[[], Sequence[Callable[[], None]]]) -> None:
        """Copies now, and writes in the background.

        Args:
            what: is saved, in words.
            copy: takes the copies, and gives the calls that write them.
        """
        self.wait()
        started = time.perf_counter()
        writes = copy()
        self._last = time.perf_counter()
        work = (what, writes, self._last - started)
        self._thread = threading.Thread(target=self._write, args=work, daemon=True)  # a second SIGINT waits for nobody
        self._thread.start()

    def wait(self) -> bool:
        """Waits for the save under way; whether the last one succeeded."""
        if self._thread:
            self._thread.join()
        return self._succeeded

    def _write(self, what: str, writes: Sequence[Callable[[], None]], copied: float) -> None:
        started = time.perf_counter()
        try:
            for write in writes:
                write()
            self._succeeded = True
        except Exception as error:  # a full disk, say: training goes on, and the next save may succeed
            self._succeeded = False
            self._note(f"{what} could not be saved ({first_line(error)}); goes on, with the saves that there are")
        finally:
            self._measured(copied + time.perf_counter() - started)

    def _measured(self, cost: float) -> None:
        """Takes what a save cost; says so once, where that changes much."""
        guess, first = self.cost, not self.saves
        self.cost, self.saves, self.spent = cost, self.saves + 1, self.spent + cost
        if (
            first
            and not self.every_steps
            and not 0.5 * guess < cost < 1.5 * guess
            and max(cost, guess) / self.share > 30
        ):
            self._note(
                f"a save took {cost:.1f} s: from now on about every {words_duration(max(1.0, self.interval))}{_MOST}"
            )
