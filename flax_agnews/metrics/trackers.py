"""What logs the metrics, pictures and tables of a run besides its metrics file: the interface, none, and several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Logs metrics, pictures, tables and files of one run."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics by name; `step` is the number of the update, from 0, and must not decrease."""

    def figure(self, name: str, path: Path) -> None:
        """Logs a picture, a PNG file."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table."""

    def files(self, name: str, paths: Sequence[Path]) -> None:
        """Logs files that belong together under a name that also says what they are, such as `report`."""

    def finish(self) -> bool:
        """Ends the run, waiting a few seconds for the upload at most; returns whether everything was logged."""


class NullTracker:
    """A tracker that logs nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Does nothing."""

    def figure(self, name: str, path: Path) -> None:
        """Does nothing."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Does nothing."""

    def files(self, name: str, paths: Sequence[Path]) -> None:
        """Does nothing."""

    def finish(self) -> bool:
        """Returns False, since nothing was logged."""
        return False


class Trackers:
    """Several trackers of one run, which all log the same.

    Args:
        trackers: the trackers.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics by name."""
        for tracker in self._trackers:
            tracker.log(metrics, step)

    def figure(self, name: str, path: Path) -> None:
        """Logs a picture, a PNG file."""
        for tracker in self._trackers:
            tracker.figure(name, path)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table."""
        for tracker in self._trackers:
            tracker.table(name, columns, rows)

    def files(self, name: str, paths: Sequence[Path]) -> None:
        """Logs files that belong together."""
        for tracker in self._trackers:
            tracker.files(name, paths)

    def finish(self) -> bool:
        """Ends all; returns whether everything was logged by all."""
        kept = [tracker.finish() for tracker in self._trackers]
        return all(kept)
