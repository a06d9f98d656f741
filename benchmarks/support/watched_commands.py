"""Runs commands as whole processes, and finds from when their output arrives what their seconds went into."""

import os
import pty
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# A line that matches begins a part; other lines belong to the part that they are in.
_BEGINNINGS = (
    (r"(reading|loading) .*\.\.\.$", "read"),
    (r"(tokenizing|making a vocabulary.*) \.\.\.$", "tokenize"),
    (r"(planning batches|checking what the strategies do) \.\.\.$", "plan"),
    (r"\w+: caching the ", "cache"),
    (r"compiling .*\.\.\.$", "compile"),
    (r"compiling [^:]*: |Weights & Biases |\w+: .* are saved about every |.*  epoch \d+/|.*  done in ", "runs"),
    (r"writing the report \.\.\.$", "report"),
)

_CHUNK = 1 << 16  # bytes


class Chunk(NamedTuple):
    """A piece of a process's output, and the seconds from the process's start until it arrived."""

    seconds: float
    data: bytes


class Line(NamedTuple):
    """A line of a process's output, and the seconds from the process's start until its end arrived."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Watched:
    """A process that has ended.

    Attributes:
        wall: seconds from its start to its end.
        processor: seconds of processor time, user and system, with its child processes.
        code: its exit code.
        chunks: its output and errors, in the order of arrival.
        stopped: whether it was stopped because its time was over.
    """

    wall: float
    processor: float
    code: int
    chunks: Sequence[Chunk]
    stopped: bool = False

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return b"".join(chunk.data for chunk in self.chunks).decode(errors="replace")

    @property
    def first(self) -> float:
        """Seconds until its first output; all its seconds if there was none."""
        return self.chunks[0].seconds if self.chunks else self.wall

    @property
    def silence(self) -> float:
        """Longest time without output in seconds, from the first output to the process's end."""
        times = [*(chunk.seconds for chunk in self.chunks), self.wall]
        return max((after - before for before, after in pairwise(times)), default=0.0)


def watch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    terminal: bool = False,
    limit: float | None = None,
) -> Watched:
    """Runs a command, and notes when its output arrives.

    Args:
        command: the program and its arguments.
        folder: working directory.
        environment: all environment variables.
        terminal: whether the output goes to a terminal (a pseudo-terminal of 120 columns) instead of a pipe.
        limit: seconds after which the process is asked to stop (SIGTERM); None for none.
    """
    ours, theirs = pty.openpty() if terminal else os.pipe()
    size = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm-256color"} if terminal else {}
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, **size, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    stop = threading.Timer(limit or 0, process.terminate)
    if limit is not None:
        stop.start()
    chunks = [Chunk(time.perf_counter() - started, data) for data in _read(ours)]
    os.close(ours)
    stop.cancel()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    return Watched(wall, used.ru_utime + used.ru_stime, process.returncode, chunks, limit is not None and wall >= limit)


def _read(descriptor: int) -> Iterator[bytes]:
    """Output as it arrives, until no process can write any more."""
    while True:
        try:
            data = os.read(descriptor, _CHUNK)
        except OSError:  # how a pseudo-terminal ends
            return
        if not data:
            return
        yield data


def lines(chunks: Sequence[Chunk]) -> list[Line]:
    """The lines of an output, without line ends; what follows the last line end is left out."""
    found, rest = [], b""
    for chunk in chunks:
        *whole, rest = (rest + chunk.data).split(b"\n")
        found += [Line(chunk.seconds, line.decode(errors="replace").rstrip("\r")) for line in whole]
    return found


def parts(found: Sequence[Line], wall: float) -> dict[str, float]:
    """The seconds of each part of an experiment: import, read, tokenize, plan, cache, compile, runs and report.

    Importing is all before the first line that begins another part. `runs` are training, evaluation and saving.

    Args:
        found: the lines that the command printed, through a pipe.
        wall: seconds from the process's start to its end.
    """
    begun = [Line(0.0, "import")]
    for line in found:
        names = [name for pattern, name in _BEGINNINGS if re.match(pattern, line.text)]
        begun += [Line(line.seconds, name) for name in names[:1]]
    seconds: dict[str, float] = {}
    for (since, name), (until, _) in pairwise([*begun, Line(wall, "")]):
        seconds[name] = seconds.get(name, 0.0) + until - since
    return seconds


def import_seconds(text: str) -> float:
    """Sum of the seconds of all imports in the errors of `python -X importtime`, which lists microseconds."""
    return sum(int(own) for own in re.findall(r"^import time: +(\d+) \|", text, re.M)) / 1e6
