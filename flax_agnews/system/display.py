"""The terminal display of an experiment: finished runs, progress bars of running ones, and the time left."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.errors import LiveError
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from flax_agnews.errors import printable
from flax_agnews.system.heartbeat import every
from flax_agnews.system.text import count, duration, left_text, words_duration

_REDRAWS = 8  # a second
_SLOW_SECONDS = 2.0  # tasks that take longer print their duration
_ALIVE_SECONDS = 30.0  # without a terminal, they print so often how long they have taken
_LABEL_WIDTH = 5  # "model" in the header
_TEXT_WIDTH = 24  # "val 0.902  21 k tokens/s"
_TIME_WIDTH = 12  # "0:00:08 left"
_BAR_WIDTH = (8, 30)  # least, most
_ASCII = str.maketrans("━╸·→", "==->")


@dataclass(frozen=True)
class Job:
    """A planned job: name of the strategy, a detail such as `seed 42`, and number of epochs."""

    name: str
    detail: str
    epochs: int

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()


class Progress:
    """The progress of one running job on the display; created by `Display.start`."""

    def __init__(self, display: "Display", job: Job, done_epochs: float) -> None:
        self.job = job
        self.done = done_epochs  # epochs, with a fraction
        self.text = ""
        self.speed: float | None = None  # tokens a second
        self.started = display.clock()
        self._display = display
        self.before = done_epochs  # epochs that an earlier process completed
        self._first: tuple[float, float] | None = None  # clock and epochs at the first step, after compiling
        self._last = self.started

    def step(self, epochs_done: float, tokens_per_second: float | None = None) -> None:
        """Updates the progress, after every step; the display is redrawn 8 times a second."""
        self.done, self.speed, self._last = epochs_done, tokens_per_second, self._display.clock()
        if self._first is None:
            self._first = (self._last, epochs_done)

    def epoch(self, epoch: int, text: str) -> None:
        """Ends an epoch (from 1) with a text about it; the part before two spaces is shown beside the speed."""
        self.text = text
        if not self._display.live:
            self._display.note(f"{self.job}  epoch {epoch}/{self.job.epochs}  {text}")

    def finish(self, text: str, whole: bool = True) -> None:
        """Ends the job, whose line stays with `text` and its duration.

        Args:
            text: the result.
            whole: whether all epochs were run.
        """
        self.text, self.done = text, float(self.job.epochs) if whole else self.done
        self._display.finished(self)

    def seconds_per_epoch(self) -> float | None:
        """Seconds per epoch, measured from the first step to the latest; None before the second step."""
        if self._first is None or self.done <= self._first[1]:
            return None
        return (self._last - self._first[0]) / (self.done - self._first[1])

    def seconds_left(self, usual: float | None) -> float | None:
        """Seconds to the end of the last epoch; None if unknown.

        Args:
            usual: seconds per epoch, used until this job's own speed is measured; None if unknown.
        """
        rate = self.seconds_per_epoch() or usual
        if rate is None:
            return None
        return max(0.0, rate * (self.job.epochs - self.done) - (self._display.clock() - self._last))


class Display:
    """Shows header lines, finished jobs, running jobs with a progress bar, and one line with the waiting jobs.

    A context manager: inside `with`, a terminal has a live part at its end, whose last state stays afterwards.
    Without a terminal, or outside `with`, everything is printed as plain lines. Nested `with` has no further effect.

    Args:
        console: The `rich` console; by default standard output.
        clock: A monotonic clock in seconds; tests pass their own.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(highlight=False)
        self.clock = clock
        self.live: Live | None = None
        self._unicode = self.console.encoding.startswith("utf")
        self._depth = 0
        self._stopping = False
        self._busy: list[tuple[str, float]] = []  # texts, and when they were begun; several threads append and remove
        self._waiting: list[Job] = []
        self._running: list[Progress] = []
        self._costs: dict[str, tuple[float, float]] = {}  # name: seconds and epochs of its finished jobs
        self._at_once = 1  # jobs
        self._widths = (8, 0)  # of the columns for name and detail

    def __enter__(self) -> "Display":
        self._depth += 1
        if self._depth == 1 and self.console.is_terminal and not self.console.is_dumb_terminal:
            self._stopping = False
            live = Live(console=self.console, get_renderable=self._picture, refresh_per_second=_REDRAWS)
            with suppress(LiveError):  # another live display uses this console: print plain lines
                live.start()
                self.live = live
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self.live:
            live, self.live = self.live, None
            self._stopping = True
            live.stop()

    def say(self, label: str, text: str) -> None:
        """Prints a header line, with `label` in a column of its own."""
        head = self._clean(label).ljust(_LABEL_WIDTH) + "  "
        if not self.console.is_terminal:
            return self.note(head + text)
        line = Table.grid()
        line.add_row(Text(head, "bold", no_wrap=True), Text(self._clean(text), overflow="fold"))
        self.console.print(line)

    def note(self, text: str) -> None:
        """Prints a plain line above the live part, without wrapping it."""
        self.console.print(Text(self._clean(text)), soft_wrap=True)

    @contextmanager
    def busy(self, text: str, hint: str = "") -> Iterator[None]:
        """A context for a slow task: shows name and hint, and its seconds, which stay if they were more than 2."""
        started = self.clock()
        self._busy.append(task := (f"{text} ({hint})" if hint else text, started))
        if self.live:
            self.live.refresh()
        else:
            self.note(f"{task[0]} ...")

        def alive() -> None:
            if not self.live and self._busy[-1:] == [task]:
                self.note(f"{text} ... {words_duration(self.clock() - started)}")

        try:
            with every(_ALIVE_SECONDS, alive):
                yield
        finally:
            self._busy.remove(task)
            if self.live:
                self.live.refresh()
        if self.clock() - started > _SLOW_SECONDS:
            self.note(f"{text}: {words_duration(self.clock() - started)}")

    def plan(self, jobs: list[Job], at_once: int = 1) -> None:
        """Sets the jobs that will run, in order, as many at once as is given; replaces an earlier plan."""
        self._waiting, self._at_once = list(jobs), at_once
        names = [cell_len(self._clean(job.name)) for job in jobs]
        details = [cell_len(self._clean(job.detail)) for job in jobs]
        self._widths = (max([8, *names]), max([0, *details]))

    def start(self, name: str, detail: str, epochs: int, done_epochs: float = 0.0) -> Progress:
        """Starts a job, and removes it from the waiting ones; `done_epochs` of it were completed earlier."""
        planned = [job for job in self._waiting if (job.name, job.detail) == (name, detail)]
        if planned:
            self._waiting.remove(planned[0])
        progress = Progress(self, Job(name, detail, epochs), done_epochs)
        self._running.append(progress)
        return progress

    def finished(self, progress: Progress) -> None:
        """Moves a job from the live part to a line above it; called by `Progress.finish`."""
        if progress not in self._running:
            return
        self._running.remove(progress)
        seconds, epochs = self.clock() - progress.started, progress.done - progress.before
        if epochs > 0:
            before = self._costs.get(progress.job.name, (0.0, 0.0))
            self._costs[progress.job.name] = (before[0] + seconds, before[1] + epochs)
        took = duration(seconds)
        if self.live:
            done = progress.done
            row = self._row(progress.job, done / (progress.job.epochs or 1), int(done + 1e-9), progress.text, took)
            self.live.refresh()  # else the job would be shown twice until the next redraw
            self.console.print(row)
        else:
            how = "done in" if progress.done >= progress.job.epochs else "stopped after"
            self.note(f"{progress.job}  {how} {took}  {progress.text}")

    def _picture(self) -> RenderableType:
        """The live part: running jobs, the slow task, waiting jobs. Also called by the thread that redraws."""
        busy, running, waiting = self._busy[-1:], self._running[:], self._waiting[:]
        lines: list[RenderableType] = [self._running_row(progress) for progress in running]
        if not self._stopping:
            lines += [self._busy_row(text, started) for text, started in busy]
            lines += [self._waiting_row(waiting)] if waiting else []
        return Group(*lines)

    def _busy_row(self, text: str, started: float) -> Spinner:
        """A slow task: `⠼ compiling full ... 7 s`."""
        seconds = self.clock() - started
        took = f" {words_duration(seconds)}" if seconds >= 1 else ""
        spinner = Spinner(
            "dots" if self._unicode else "line", self._line(f"{self._clean(text)} ...{took}"), style="cyan"
        )
        spinner.start_time = self.console.get_time() - seconds  # every picture has a new one
        return spinner

    def _running_row(self, progress: Progress) -> Text:
        speed = f"{count(progress.speed)} tokens/s" if progress.speed else ""
        first = progress.text.split("  ")[0] if speed else progress.text
        text = "  ".join(part for part in (first, speed) if part)
        when = "stopped" if self._stopping else left_text(progress.seconds_left(self._rate(progress.job.name)))
        fraction = progress.done / progress.job.epochs if progress.job.epochs else 1.0
        return self._row(progress.job, fraction, int(progress.done + 1e-9), text, when)

    def _row(self, job: Job, fraction: float, epochs: int, text: str, when: str) -> Text:
        """A running job: `full  seed 42  ━━━━━━━━ 1/3   val 0.902  21 k tokens/s  0:00:08 left`."""
        label = self._label(job)
        counted = f"{epochs}/{job.epochs}".ljust(5)
        padded = _padded(self._clean(text), _TEXT_WIDTH)
        rest = cell_len(f"{label}   {counted} {padded}  ") + _TIME_WIDTH
        width = min(max(self.console.width - rest, _BAR_WIDTH[0]), _BAR_WIDTH[1])
        return self._line(label, "  ", self._bar(fraction, width), f" {counted} {padded}  ", (when, "cyan"))

    def _waiting_row(self, waiting: list[Job]) -> Text:
        """The line of the waiting jobs: `prompt   2 to go · partial 2 to go      0:00:52 left` (time of all jobs)."""
        left = Counter(self._clean(job.name) for job in waiting)
        (first, number), *others = left.items()
        text = f"{_padded(first, self._widths[0])} {number} to go"
        text = self._clean(text + "".join(f" · {name} {number} to go" for name, number in others))
        when = left_text(self._total_left())
        full = cell_len(self._label(Job("", "", 0))) + 2 + _BAR_WIDTH[1] + 1 + 5 + 1 + _TEXT_WIDTH + 2
        column = min(full, self.console.width - _TIME_WIDTH)  # under the times of the rows above
        return self._line(set_cell_size(text, column) if when else text, (when, "cyan"), style="dim")

    def _line(self, *parts: str | Text | tuple[str, str], style: str = "") -> Text:
        """One line, cut to the console's width."""
        overflow: OverflowMethod = "ellipsis" if self._unicode else "crop"
        return Text.assemble(*parts, style=style, no_wrap=True, overflow=overflow)

    def _total_left(self) -> float | None:
        """Seconds to the end of all jobs; None if that of some job is unknown."""
        left = [progress.seconds_left(self._rate(progress.job.name)) for progress in self._running]
        for job in self._waiting:
            rate = self._rate(job.name)
            left.append(None if rate is None else rate * job.epochs)
        known = [seconds for seconds in left if seconds is not None]
        return max([sum(known) / self._at_once, *known]) if len(known) == len(left) else None

    def _rate(self, name: str) -> float | None:
        """Seconds per epoch: the average of finished jobs of this name, else of a running job; None if unknown."""
        if name in self._costs:
            seconds, epochs = self._costs[name]
            return seconds / epochs
        running = sorted(self._running, key=lambda progress: progress.job.name != name)
        return next((rate for progress in running if (rate := progress.seconds_per_epoch())), None)

    def _label(self, job: Job) -> str:
        name, detail = self._clean(job.name), self._clean(job.detail)
        return f"{_padded(name, self._widths[0])} {_padded(detail, self._widths[1])}"

    def _bar(self, fraction: float, width: int) -> Text:
        halves = int(min(max(fraction, 0.0), 1.0) * width * 2 + 1e-9)
        done = "━" * (halves // 2) + "╸" * (halves % 2)
        # without colours, the rest must be blank, since it would look like the done part
        rest = ("━" if self.console.color_system and not self.console.no_color else " ") * (width - len(done))
        style = "green" if halves == width * 2 else "magenta"
        return Text.assemble((self._clean(done), style), (self._clean(rest), "bright_black"))

    def _clean(self, text: str) -> str:
        """`text` on one line, without control characters and with only characters of the console's encoding."""
        line = printable(text).translate({} if self._unicode else _ASCII)
        return line.encode(self.console.encoding, errors="replace").decode(self.console.encoding)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
