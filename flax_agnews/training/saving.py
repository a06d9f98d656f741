"""Decides when checkpoints are saved, and writes them in the background, so that training doesn't wait."""

import threading
import time
from collections.abc import Callable, Sequence

from flax_agnews.config import CheckpointConfig
from flax_agnews.errors import UserError, first_line, flag
from flax_agnews.system.text import count, words_duration
from flax_agnews.training.private_apis import leave_background_pools

_FIRST_GUESS = 200e6  # bytes per second assumed for the first save; later ones are assumed to cost as much as the last
_MOST = ", the most that a crash can lose"
_MOST_HANGING = 2  # hanging writes, each of which holds a copy of the state, at which no further write starts

Sign = Callable[[], None]
"""Called by a write whenever it has made progress; raises `GivenUp` if the write has been given up."""

Write = Callable[[Sign], None]
"""Writes a part of a save, and calls the given `Sign` as it progresses."""


class GivenUp(Exception):
    """Raised in a write that hung and was given up, when it continues; what it has written is not used."""


class Refused(Exception):
    """Raised for a state that isn't worth saving; the disk hasn't failed, so training needn't stop."""


class _Save:
    """One save, in progress or finished.

    Args:
        what: name of what is saved, for messages.
        ended: called once, when the save has ended or is given up, with the reason of a failure, or an empty text.

    Attributes:
        signs: number of times that it has made progress.
        failed: reason of a failure; empty otherwise.
        refused: whether it failed by `Refused`.
        over: event that is set when it has ended or is given up.
    """

    def __init__(self, what: str, ended: Callable[[str], None]) -> None:
        self.what, self._ended = what, ended
        self.signs, self.failed, self.refused, self.over = 0, "", False, threading.Event()
        self._lock = threading.Lock()

    def write(self, writes: Sequence[Write]) -> None:
        """Writes all parts, in the calling thread."""
        try:
            for write in writes:
                self.sign()
                write(self.sign)
            self.end("")
        except Exception as error:  # a full disk, say: training goes on, and the next save may succeed
            self.refused = isinstance(error, Refused)
            self.end(first_line(error))

    def sign(self) -> None:
        """Counts a sign of progress; raises `GivenUp` if the save has been given up."""
        self.signs += 1
        if self.over.is_set():
            raise GivenUp(self.what)

    def end(self, failed: str) -> None:
        """Ends the save, unless it has ended before; sets `over` after calling `ended`."""
        with self._lock:
            if self.over.is_set():
                return
            self.failed = failed
            if failed:
                leave_background_pools()
            try:
                self._ended(failed)
            finally:
                self.over.set()


class Saving:
    """Saves checkpoints in the background, one after another, as often as a share of the time allows.

    The cost of a save is the time that training waits for the copy, plus the whole time of the write, as if training
    stood still meanwhile: an upper bound. A write without progress for a while is given up: its thread may hang for
    ever, but what it writes later is not used.

    Args:
        every_steps: number of updates between saves; 0 to save as often as `share` allows.
        share: largest share of the time that saving may cost.
        note: called with a message when a save fails, and with how often checkpoints are saved.
        stop: whether training stops after a failed save (by `check`).
        patience: seconds without progress after which a write counts as hanging.
        name: name of the strategy or task that trains, for messages.
        final: whether to save after the last update too, so that a finished run can be continued.
        says_how_often: whether how often checkpoints are saved is noted.

    Attributes:
        cost: seconds that the last save took, or an estimate before the first.
        saves: number of saves so far.
    """

    def __init__(
        self,
        every_steps: int = 0,
        share: float = 0.01,
        note: Callable[[str], None] = lambda text: None,
        stop: bool = False,
        patience: float = 50.0,
        name: str = "",
        final: bool = False,
        says_how_often: bool = True,
    ) -> None:
        self._says_how_often = says_how_often
        self.every_steps, self.share, self.stop, self.patience = every_steps, share, stop, patience
        self.final = final
        self._before, self._report = f"{name}: " if name else "", note
        self._under_way: _Save | None = None  # or the last save
        self._failed = ""  # the save that failed, and why, if that stops training
        self._threads: list[threading.Thread] = []
        self._last = time.perf_counter()
        self.cost = 0.0  # seconds
        self.saves = 0

    @classmethod
    def of(
        cls,
        config: CheckpointConfig,
        name: str,
        note: Callable[[str], None],
        final: bool = False,
        says_how_often: bool = True,
    ) -> "Saving | None":
        """Makes the object that the settings ask for; None if they turn checkpoints off."""
        if not config.enabled:
            return None
        stop = config.on_failure == "stop"
        return cls(config.every_steps, config.share, note, stop, name=name, final=final, says_how_often=says_how_often)

    def begin(self, size: int) -> None:
        """Starts the clock when a run begins or is resumed.

        Args:
            size: size of a checkpoint in bytes, from which the cost of the first save is estimated.
        """
        self._last, self._failed = time.perf_counter(), ""
        if self.saves or self.every_steps:
            return
        if not self.cost and self._says_how_often:
            often = words_duration(max(1.0, size / _FIRST_GUESS / self.share))
            self._note(f"{count(size)}B are saved about every {often}{_MOST}")
        self.cost = size / _FIRST_GUESS

    @property
    def interval(self) -> float:
        """Seconds between two saves, if they are chosen by cost."""
        return self.cost / self.share

    def due(self, step: int) -> bool:
        """Whether to save after update `step`."""
        if self.every_steps:
            return step % self.every_steps == 0
        return self.idle and time.perf_counter() - self._last >= self.interval

    @property
    def idle(self) -> bool:
        """Whether no save is in progress; one that was given up doesn't count."""
        return self._under_way is None or self._under_way.over.is_set()

    def save(self, what: str, copy: Callable[[], Sequence[Write]]) -> None:
        """Copies the state now, and writes the copy in the background.

        Args:
            what: name of what is saved, for messages.
            copy: copies the state, and returns the calls that write the copy.
        """
        self.wait()
        before = time.perf_counter()
        writes = self._possible(copy)
        self._last = time.perf_counter()
        copied = self._last - before

        def ended(failed: str) -> None:
            if not failed:
                self._measured(copied + time.perf_counter() - self._last)
                return
            stops, failure = self.stop and not save.refused, f"{what} could not be saved ({failed})"
            self._failed = failure if stops else self._failed
            then = "stops after this update" if stops else "goes on"
            self._note(f"{failure}; {then}, with the saves that there are")

        save = _Save(what, ended)
        self._under_way = self._start(save, writes)

    def wait(self) -> bool:
        """Waits until a save in progress has ended or is given up; returns whether the last save succeeded."""
        if self._under_way:
            self._under_way.over.wait()
        return not (self._under_way and self._under_way.failed)

    def finish(self, what: str, writes: Sequence[Write]) -> str:
        """Writes, and waits until that has ended or is given up; returns the reason of a failure, or an empty text."""
        self.wait()
        save = self._start(_Save(what, lambda failed: None), self._possible(lambda: writes))
        save.over.wait()
        return save.failed

    def check(self) -> None:
        """Raises a `UserError` if a save of this run has failed, and `stop` is set."""
        if self._failed:
            self.wait()  # for a later save, which may succeed
            raise UserError(
                f"{self._before}{self._failed}, and {flag('checkpoint.on_failure')} is stop. Other saves stay: mend "
                "that, and run the same command to go on"
            )

    def _start(self, save: _Save, writes: Sequence[Write]) -> _Save:
        """Starts threads that write and watch; daemons, so that a second SIGINT ends the process at once."""
        writer = threading.Thread(target=save.write, args=(writes,), daemon=True)
        self._threads = [thread for thread in self._threads if thread.is_alive()] + [writer]
        writer.start()
        threading.Thread(target=self._watch, args=(save,), daemon=True).start()
        return save

    def _possible(self, copy: Callable[[], Sequence[Write]]) -> Sequence[Write]:
        """The calls that write; or, if too many writes hang, one that fails."""
        hanging = sum(thread.is_alive() for thread in self._threads)
        return copy() if hanging < _MOST_HANGING else [_refuse]

    def _watch(self, save: _Save) -> None:
        """Gives a save up after `patience` seconds without progress, not counting time while the process is stopped."""
        tick, seen, quiet = min(1.0, self.patience / 10), -1, 0.0
        while not save.over.wait(tick):
            quiet, seen = (quiet + tick if save.signs == seen else 0.0), save.signs
            if quiet >= self.patience:
                save.end(f"nothing was written for {words_duration(quiet)}: the disk may be full, or gone")

    def _note(self, text: str) -> None:
        self._report(self._before + text)

    def _measured(self, cost: float) -> None:
        """Records a save's cost in seconds; the first is reported if it differs much from the estimate."""
        guess, first = self.cost, not self.saves
        self.cost, self.saves = cost, self.saves + 1
        if (
            first
            and self._says_how_often
            and not self.every_steps
            and not 0.5 * guess < cost < 1.5 * guess
            and max(cost, guess) / self.share > 30
        ):
            self._note(
                f"a save took {cost:.1f} s: from now on about every {words_duration(max(1.0, self.interval))}{_MOST}"
            )


def _refuse(sign: Sign) -> None:
    raise OSError(f"{_MOST_HANGING} writes before it still hang")
