"""`Rows`, the unchecked rows that all data sources give, and the checks that apply to all of them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from shlex import quote
from types import MappingProxyType
from typing import Any

import numpy as np

from flax_agnews.errors import UserError, flag, listed, shown
from flax_agnews.system.machine import machine_memory

MOST_CLASSES = 10_000
Text = str | tuple[str, str]
"""A text, or a pair of texts."""


@dataclass(frozen=True)
class Origins:
    """Where each text of a split comes from.

    Attributes:
        files: names of the files as the user gave them; of a hub data set, id and split.
        file: [texts] int32, number of each text's file in `files`.
        row: [texts] int64, number of its row in that file, from 1; a CSV file's header and blank lines don't count.
    """

    files: tuple[str, ...]
    file: np.ndarray
    row: np.ndarray

    def take(self, which: np.ndarray | slice) -> "Origins":
        """The origins of some texts."""
        return Origins(self.files, self.file[which], self.row[which])

    def at(self, index: int) -> str:
        """Place of a text: `data/train.csv row 7`."""
        return f"{self.files[self.file[index]]} row {self.row[index]}"


@dataclass(frozen=True)
class Rows:
    """The rows of one split, with texts and labels not checked yet.

    Args:
        place: File, or hub id and split, for errors.
        texts: Values of the text column; tuples of two values for pairs.
        labels: Values of the label column.
        numbers: Number of each row in `place`, from 1.
        unit: The unit of `numbers`, such as `line`.
        names: Class names that the label column's type declares (ClassLabel); labels are then positions among them.
        unlabelled: Number of rows left out because they have no label.
        files: For rows of several files: (index of the file's first row, its place, its unit) of each.
    """

    place: str
    texts: Sequence[object]
    labels: Sequence[object]
    numbers: Sequence[int]
    unit: str = "row"
    names: Sequence[str] | None = None
    unlabelled: int = 0
    files: Sequence[tuple[int, str, str]] = ()

    def at(self, index: int) -> str:
        """Place of the row at `index` (from 0), for errors: `data/train.csv line 7`."""
        place = f"{self.place} {self.unit}"
        if self.files:
            place = " ".join(self.files[bisect_right(self.files, index, key=lambda file: file[0]) - 1][1:])
        return f"{place} {self.numbers[index]}"

    @property
    def origins(self) -> Origins:
        """Where each text comes from. Rows are counted where `numbers` are lines, of which a row may have several."""
        files = list(self.files or [(0, self.place, self.unit)])
        ends = [*(first for first, *_ in files[1:]), len(self.texts)]
        sizes = [end - first for (first, *_), end in zip(files, ends, strict=True)]
        numbers = np.asarray(self.numbers, np.int64)
        rows = [
            np.arange(1, size + 1) if unit == "line" else numbers[first : first + size]
            for (first, _, unit), size in zip(files, sizes, strict=True)
        ]
        places = tuple(place for _, place, _ in files)
        return Origins(places, np.repeat(np.arange(len(files), dtype=np.int32), sizes), np.concatenate(rows))


@dataclass(frozen=True)
class Found:
    """The content of a data source: the splits train, test and perhaps validation.

    Attributes:
        splits: name of a split -> its rows.
        names: class names declared in a separate file (`classes.txt`).
        notes: remarks on how the data were read, for display and report: `3 rows without label`.
        chosen: name of a split -> the name that the source has for it, if any.
    """

    splits: Mapping[str, Rows]
    names: list[str] | None = None
    notes: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)


def joined(place: str, parts: Sequence[Rows]) -> Rows:
    """Concatenates the rows of several chunks or files. UserError unless all declare the same class names."""
    first, files, rows = parts[0], list[tuple[int, str, str]](), 0
    for part in parts:
        if part.names != first.names:
            raise UserError(f"{part.place}: its type declares other class names than that of {first.place}")
        if not files or files[-1][1:] != (part.place, part.unit):
            files.append((rows, part.place, part.unit))
        rows += len(part.texts)
    texts, labels = [text for part in parts for text in part.texts], [label for part in parts for label in part.labels]
    ranges = [part.numbers for part in parts if isinstance(part.numbers, range)]
    follow = all(one.stop == other.start for one, other in pairwise(ranges)) and len(ranges) == len(parts)
    numbers = range(ranges[0].start, ranges[-1].stop) if follow else [n for part in parts for n in part.numbers]
    several = files if len(files) > 1 else ()
    unlabelled = sum(part.unlabelled for part in parts)
    return Rows(place if several else first.place, texts, labels, numbers, first.unit, first.names, unlabelled, several)


def path_in(fields: Mapping[str, Any], name: str) -> list[str]:
    """The path to a nested column, `meta.label` -> meta, label; empty if there is no such column."""
    if name in fields:
        return [name]
    for key, inner in fields.items():
        if isinstance(inner, Mapping) and name.startswith(f"{key}."):
            path = path_in(inner, name.removeprefix(f"{key}."))
            if path:
                return [key, *path]
    return []


def check_columns(
    place: str,
    columns: Sequence[str],
    wanted: Sequence[tuple[str, str]],
    section: str = "data.",
    fields: Mapping[str, Any] = MappingProxyType({}),
    delimiter: str | None = None,
) -> None:
    """Raises a `UserError` unless each wanted column exists once.

    Args:
        place: the file or split, for errors.
        columns: names of its columns.
        wanted: (name of a setting, the column it names) for each column.
        section: prefix of setting names in errors.
        fields: column -> its nested columns by name.
        delimiter: the delimiter, if the columns come from the header of a CSV file.
    """
    if not columns:
        raise UserError(f"{place} is empty: rows with a text and a label are needed")
    for setting, name in wanted:
        count = list(columns).count(name)
        if count > 1:
            raise UserError(f"{flag(section + setting)} {name}: {place} has the columns {shown(name)} {count} times")
        if not count and not path_in(fields, name):
            inside = {column: [f"{column}.{inner}" for inner in fields.get(column) or ()] for column in columns}
            have = listed(shown(name) for column in columns for name in inside[column] or [column])
            other = [known for known in columns if known.strip().casefold() == name.strip().casefold()]
            hint = f". Did you mean {flag(section + setting)} {quote(other[0])}?" if other else ""
            if delimiter and not hint and not any(name in columns for _, name in wanted):
                hint = _no_header(columns, [name for _, name in wanted], section, delimiter)
            raise UserError(f"{flag(section + setting)} {name}: {place} has the columns {have}{hint}")


def _no_header(columns: Sequence[str], wanted: Sequence[str], section: str, delimiter: str) -> str:
    """A hint for a CSV file whose first line has none of the wanted columns."""
    header = f". If its first line is no header, put one above it: {delimiter.join(wanted).replace(chr(9), ' (tab) ')}"
    split = (
        f". If other characters are between columns: {flag(section + 'delimiter')} CHARACTER"
        if len(columns) == 1
        else ""
    )
    return header + split


def side_by_side(columns: Sequence[Sequence[object]]) -> Sequence[object]:
    """The values of one text column, or tuples of the values of two."""
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def checked_texts(rows: Rows) -> list[Text]:
    """The texts, unchanged. UserError if one is missing or isn't a string; empty texts are allowed."""
    if not rows.texts:
        raise UserError(f"{rows.place} has no rows: at least one text and its label are needed")
    texts: list[Text] = []
    for index, value in enumerate(rows.texts):
        if isinstance(value, tuple):
            first, second = value
            texts.append((_checked(rows, index, first, "first text"), _checked(rows, index, second, "second text")))
        else:
            texts.append(_checked(rows, index, value, "text"))
    size = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
    if size > machine_memory() // 2:  # a few distinct strings may occur in many rows
        raise UserError(f"{rows.place}: {size / 1e9:,.0f} GB of texts are more than half of this machine's memory")
    return texts


def _checked(rows: Rows, index: int, text: object, name: str) -> str:
    if text is None:
        raise UserError(f"{rows.at(index)}: the {name} is missing (an empty one would be allowed)")
    if not isinstance(text, str):
        raise UserError(f"{rows.at(index)}: {shown(text)} is no text; {flag('data.text_column')} names the texts")
    if not text.isascii() and not _encodable(text):
        raise UserError(f"{rows.at(index)}: the {name} is no valid Unicode (half of a surrogate pair)")
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
