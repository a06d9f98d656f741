"""What a Ray task and its driver tell each other while it runs: progress in one direction, stop requests in the other.

An actor beside the driver, the `Desk`, collects what tasks report, and answers each report with the signal to stop for.
It doesn't import JAX, and neither does this file.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from flax_agnews.system.display import Display, Job, Progress
from flax_agnews.system.interrupt import Interrupt

_SECONDS = 0.5  # between a task's reports
_REPLACED = -1  # a desk's answer to a task that runs again elsewhere


@dataclass(frozen=True)
class Event:
    """Something that a task reports.

    Attributes:
        kind: `began`, `note`, `start`, `step`, `epoch` or `finish`, with the arguments of these methods of `Display`
            and `Progress`; `began` has the address of the task's node.
        job: name and detail of the job whose line it concerns; empty for `began` and `note`.
        values: the arguments.
    """

    kind: str
    job: tuple[str, str]
    values: tuple[Any, ...]


class Desk:
    """Collects the events of all tasks for the driver; a Ray actor, which handles one call after the other."""

    def __init__(self) -> None:
        self._signal = 0
        self._events: list[tuple[str, Event]] = []
        self._newest: dict[str, str] = {}  # task -> its newest attempt

    def begin(self, task: str, attempt: str, node: str) -> None:
        """Notes that a task has begun; an earlier attempt of it is replaced."""
        self._newest[task] = attempt
        self._events.append((task, Event("began", ("", ""), (node,))))

    def report(self, task: str, attempt: str, events: list[Event]) -> int:
        """Takes a task's events; returns the number of the signal to stop for, 0 for none, -1 if it was replaced."""
        if self._newest.get(task) != attempt:
            return _REPLACED
        self._events += [(task, event) for event in events]
        return self._signal

    def take(self, signal: int) -> list[tuple[str, Event]]:
        """The events since the last call, for the driver, which gives the number of the signal to stop for, or 0."""
        self._signal = signal or self._signal
        events, self._events = self._events, []
        return events


class Relay:
    """A context in a task: a thread that reports its events to the desk, and passes on the signal to stop for.

    Ray frees a task's processors for others while its main thread waits for Ray, so only that thread calls it.

    Args:
        call: calls a method of the desk by name, and returns its result.
        task: name of the task, the same in all its attempts.
        node: address of this node.

    Attributes:
        signal: number of the signal to stop for, or 0.
    """

    def __init__(self, call: Callable[..., Any], task: str, node: str) -> None:
        self._call, self._task, self._node = call, task, node
        self.signal = 0
        self._interrupt: Interrupt | None = None
        self._attempt = uuid.uuid4().hex
        self._events: list[Event] = []
        self._change, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="relay", daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def watch(self, interrupt: Interrupt) -> None:
        """Makes an interrupt ask to stop as soon as the driver does; what a task before was asked is forgotten."""
        interrupt.asked, self._interrupt = self.signal, interrupt

    def post(self, kind: str, job: tuple[str, str], *values: Any) -> None:
        """Reports an event soon; of a job's consecutive steps only the last."""
        with self._change:
            if kind == "step" and self._events and (self._events[-1].kind, self._events[-1].job) == (kind, job):
                self._events.pop()
            self._events.append(Event(kind, job, values))

    def _work(self) -> None:
        try:
            self._call("begin", self._task, self._attempt, self._node)
            over = False
            while not over:
                over = self._over.wait(_SECONDS)
                with self._change:
                    events, self._events = self._events, []
                answer = self._call("report", self._task, self._attempt, events)
                if answer == _REPLACED:
                    raise RuntimeError("this task runs again elsewhere")
                self.signal = answer
                if self._interrupt and answer:
                    self._interrupt.asked = answer
        except BaseException:  # the driver is gone, or has given this task up: nothing may be written any more
            os._exit(1)


class RelayDisplay(Display):
    """The display of a task, which prints nothing: everything goes through a relay to the driver's display.

    Attributes:
        relay: where it goes; None drops it.
    """

    def __init__(self) -> None:
        super().__init__(Console(quiet=True, force_terminal=False))
        self.relay: Relay | None = None

    def post(self, kind: str, job: tuple[str, str], *values: Any) -> None:
        """Reports an event."""
        if self.relay:
            self.relay.post(kind, job, *values)

    def note(self, text: str) -> None:
        """Reports a message."""
        self.post("note", ("", ""), text)

    @contextmanager
    def busy(self, text: str, hint: str = "") -> Iterator[None]:
        """Reports nothing: several tasks compile at the same time, and their lines would say the same."""
        yield

    def start(self, name: str, detail: str, epochs: int, done_epochs: float = 0.0) -> Progress:
        """Reports that a job has started."""
        self.post("start", (name, detail), epochs, done_epochs)
        return RelayedProgress(self, Job(name, detail, epochs), done_epochs)


class RelayedProgress(Progress):
    """The progress of a task's job, which is reported to the driver."""

    def __init__(self, display: RelayDisplay, job: Job, done_epochs: float) -> None:
        super().__init__(display, job, done_epochs)
        self._post, self._place = display.post, (job.name, job.detail)

    def step(self, epochs_done: float, tokens_per_second: float | None = None) -> None:
        """Reports the progress."""
        super().step(epochs_done, tokens_per_second)
        self._post("step", self._place, epochs_done, tokens_per_second)

    def epoch(self, epoch: int, text: str) -> None:
        """Reports the end of an epoch."""
        self._post("epoch", self._place, epoch, text)

    def finish(self, text: str, whole: bool = True) -> None:
        """Reports the end of the job."""
        self._post("finish", self._place, text, whole)


class Board:
    """Shows the events of tasks on the driver's display.

    Args:
        display: the driver's display.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._begun: set[str] = set()
        self._lines: dict[tuple[str, str, str], Progress] = {}  # of jobs that haven't ended, by task, name and detail

    def has_begun(self, task: str) -> bool:
        """Whether a task has begun."""
        return task in self._begun

    def show(self, events: Iterable[tuple[str, Event]]) -> None:
        """Shows events, in their order. A task that begins again keeps the lines of its jobs."""
        for task, event in events:
            place = (task, *event.job)
            match event.kind:
                case "began":
                    again = ", again: its node or process was lost" if task in self._begun else ""
                    self._display.note(f"{task}: on node {event.values[0]}{again}")
                    self._begun.add(task)
                case "note":
                    self._display.note(event.values[0])
                case "start":
                    if place not in self._lines:
                        self._lines[place] = self._display.start(*event.job, *event.values)
                case "finish":
                    self._lines.pop(place).finish(*event.values)
                case _:
                    getattr(self._lines[place], event.kind)(*event.values)
