"""Files of results that grow entry by entry: JSON, Markdown and PNG."""

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
    """Files that are written anew whenever a result is added; results of the same commit and settings stay in them.

    Args:
        folder: folder of the files.
        name: their name, without suffix.
        settings: settings that all entries share.
        page: makes Markdown of the whole record.
        picture: makes a PNG of it; None for no picture.

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
        """Adds an entry, measured on the device `on`, and writes the files."""
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
    """The date, commit, machine and versions as a line of Markdown."""
    made = record["made"]
    versions = ", ".join(f"{name} {made[name]}" for name in ("python", "jax", "flax", "optax", "numpy"))
    where = f"{made['backend']} ({made['device']})"
    load = f"load average before: {made['load_before']:.2f}"
    return f"{made['date']}, commit {made['commit']}, {made['processor']}, {where}; {load}. {versions}."


def gibibytes(size: int | None) -> str:
    """Bytes as gibibytes for a table; a dash for None."""
    return "-" if size is None else f"{size / 2**30:.2f}"


def add_common(parser: argparse.ArgumentParser, repeats: int, data: str) -> None:
    """Adds the options that all measurements of speed have."""
    parser.add_argument("--repeats", type=int, default=repeats, help="steps that count")
    parser.add_argument("--data", default=data)
    parser.add_argument("--tokenizer", default=Trial.tokenizer)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU where JAX finds one")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
