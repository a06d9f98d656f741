"""Writes the files of a benchmark's results, JSON, Markdown and PNG, after each measurement."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.support.circumstances import RESULTS, circumstances
from benchmarks.support.trial import Record, Trial
from flax_agnews.system.files import write_atomic


class ResultFiles:
    """A benchmark's files, rewritten whenever a result is added; earlier results of the same commit and settings stay.

    Args:
        folder: folder of the files.
        name: file name without suffix.
        settings: settings that all entries share.
        page: makes the Markdown page of the record.
        picture: makes the PNG picture of the record; None for no picture.

    Attributes:
        entries: results by name.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Record,
        page: Callable[[Record], str],
        picture: Callable[[Record], bytes] | None,
    ) -> None:
        self._file, self._settings, self._page, self._picture = folder / name, settings, page, picture
        self._made = {**circumstances(), "load_before": os.getloadavg()[0]}
        self.entries = self._kept()

    def add(self, name: str, entry: Any, on: Record) -> None:
        """Adds an entry, with facts `on` about the backend and device that it was measured on, and writes the files."""
        self.entries[name] = entry
        self.record = {"made": {**self._made, **on}, "settings": self._settings, "entries": self.entries}
        write_atomic(self._file.with_suffix(".json"), (json.dumps(self.record, indent=1) + "\n").encode())
        write_atomic(self._file.with_suffix(".md"), self._page(self.record).encode())
        if self._picture:
            write_atomic(self._file.with_suffix(".png"), self._picture(self.record))

    def _kept(self) -> dict[str, Any]:
        file = self._file.with_suffix(".json")
        if not file.exists():
            return {}
        before = json.loads(file.read_text("utf-8"))
        same = before["made"]["commit"] == self._made["commit"] and before["settings"] == self._settings
        return dict(before["entries"]) if same else {}


def made_line(record: Record) -> str:
    """Date, commit, machine and versions as a line of Markdown."""
    made = record["made"]
    versions = ", ".join(f"{name} {made[name]}" for name in ("python", "jax", "flax", "optax", "numpy"))
    where = f"{made['backend']} ({made['device']})"
    load = f"load average before: {made['load_before']:.2f}"
    return f"{made['date']}, commit {made['commit']}, {made['processor']}, {where}; {load}. {versions}."


def gibibytes(size: int | None) -> str:
    """Bytes as gibibytes for a table; a dash for None."""
    return "-" if size is None else f"{size / 2**30:.2f}"


def add_common(parser: argparse.ArgumentParser, repeats: int, data: str) -> None:
    """Adds the options that all speed benchmarks have, with the defaults of `--repeats` and `--data`."""
    parser.add_argument("--repeats", type=int, default=repeats, help="steps that count")
    parser.add_argument("--data", default=data)
    parser.add_argument("--tokenizer", default=Trial.tokenizer)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU where JAX finds one")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
