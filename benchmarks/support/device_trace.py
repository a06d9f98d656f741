"""Reads what a device ran, and when, from a trace of `jax.profiler`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.profiler import ProfileData

_DERIVED = ("XLA ", "Steps", "Framework", "TensorFlow", "Source", "Launch")
"""Beginnings of the names of lines that repeat a GPU's streams in another form."""


class Event(NamedTuple):
    """A kernel, a copy or another operation that a device ran.

    Attributes:
        name: the kernel's name.
        operation: name of the operation in its program; empty where the trace has none.
        program: what identifies its program in the trace.
        start, seconds: when it began, and how long it took.
    """

    name: str
    operation: str
    program: tuple[str, str]
    start: float
    seconds: float


def read_events(folder: Path) -> list[Event]:
    """Reads the events of all devices: of GPUs those of their streams, of a CPU the operations of its programs.

    Args:
        folder: the folder that was given to `jax.profiler.trace`, with one trace.
    """
    (file,) = folder.rglob("*.xplane.pb")
    planes = list(ProfileData.from_file(str(file)).planes)
    gpus = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    if not gpus:
        return [event for plane in planes for line in plane.lines for event in _events(line) if event.operation]
    return [event for plane in gpus for line in _streams(list(plane.lines)) for event in _events(line)]


def _streams(lines: Sequence[Any]) -> Sequence[Any]:
    streams = [line for line in lines if line.name.startswith("Stream")]
    return streams or [line for line in lines if not line.name.startswith(_DERIVED)]


def _events(line: Any) -> Iterator[Event]:
    for event in line.events:
        if event.duration_ns:
            stats = {name: value for name, value in event.stats if name in ("hlo_op", "hlo_module", "program_id")}
            program = str(stats.get("hlo_module", "")), str(stats.get("program_id", ""))
            operation = str(stats.get("hlo_op", ""))
            yield Event(event.name, operation, program, event.start_ns / 1e9, event.duration_ns / 1e9)


def busy(events: Sequence[Event]) -> float:
    """Seconds in which at least one of the events was under way."""
    total, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        end = event.start + event.seconds
        total += max(0.0, end - max(event.start, until))
        until = max(until, end)
    return total
