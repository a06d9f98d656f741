"""Consecutive rows of a file or a table: what every reader gives, and everyone who needs texts and labels takes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from flax_agnews.data.rows import Rows, check_columns, joined, path_in, side_by_side
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.system.machine import machine_memory

T = TypeVar("T")

_MOST = 1 << 25  # bytes after which a chunk ends, however few rows it has
_WHOLE = 1 << 14  # rows of a chunk where all of them are kept
_ROW = 100  # bytes of memory that a row takes besides its characters, about


@dataclass(frozen=True)
class Reading:
    """What is read for.

    Attributes:
        wanted: columns that will be asked for: a CSV's delimiter is one that has them in its header.
        only: no other columns are needed; else all are there, to be written again.
        whole: everything will be in memory at once; what can't fit is refused first.
        delimiter: of CSV files, one character or `tab`; None finds it in the header.
    """

    wanted: Sequence[str] = ()
    only: bool = False
    whole: bool = False
    delimiter: str | None = None


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        place: the file.
        columns: their names; in a JSON file those of the first row.
        records: the rows, as the file's kind has them.
        numbers: where each stands, counted from 1.
        unit: what `numbers` count.
        done: share of the file that is read.
        column: name -> its values.
        fields: column -> columns inside of it, where there are some, by name.
        declared: column -> class names that its type declares.
        typed: the columns have types, so that null is no label rather than a mistake.
        delimiter: of a CSV file.
        array: whether the file is one JSON array.
    """

    place: str
    columns: Sequence[str]
    records: Any
    numbers: Sequence[int]
    unit: str
    done: float
    column: Callable[[str], list[object]]
    fields: Mapping[str, Any] = field(default_factory=dict)
    declared: Callable[[str], list[str] | None] = lambda name: None
    typed: bool = False
    delimiter: str | None = None
    array: bool = False

    def rows(self, texts: Sequence[str], label: str | None = None, section: str = "") -> Rows:
        """Texts, and labels where a column is named, as they stand, without those rows that a type has no label for.

        Args:
            texts: column of the texts; two for pairs. Dots lead into columns inside of others: `meta.text`.
            label: column of the labels.
            section: before the names of settings in errors, such as `data.`.

        Raises:
            UserError: there is no such column, or several.
        """
        wanted = [("text_column", text) for text in texts] + ([("label_column", label)] if label is not None else [])
        check_columns(self.place, self.columns, wanted, section, self.fields, self.delimiter)
        found, numbers = side_by_side([self._values(text) for text in texts]), self.numbers
        if label is None:
            return Rows(self.place, found, [], numbers, self.unit)
        labels, names = self._values(label), self.declared(label)
        marks = (None, -1) if names else (None,)
        kept = [i for i, value in enumerate(labels) if not (self.typed and value in marks)]
        left_out = len(labels) - len(kept)
        if left_out:
            found, labels, numbers = taken(found, kept), taken(labels, kept), taken(numbers, kept)
        return Rows(self.place, found, labels, numbers, self.unit, names, left_out)

    def _values(self, name: str) -> list[object]:
        if name in self.columns:
            return self.column(name)
        head, *inner = path_in(self.fields, name)
        values = self.column(head)
        for key in inner:
            values = [value.get(key) if isinstance(value, dict) else None for value in values]
        return values


Added = Mapping[str, list[str] | np.ndarray]
"""New columns of a chunk: name -> values, strings or float32."""

Write = Callable[[Chunk, Added], None]
"""Writes the next rows; all must come from a file of the same kind, and get the same new columns."""


def check_new(place: str, columns: Collection[str], added: Iterable[str]) -> None:
    """Raises a `UserError` where a new column has the name of one that is there."""
    if there := [name for name in added if name in columns]:
        raise UserError(
            f"{place}: has {listed(there)} already; name the new columns otherwise: {flag('prefix')} answered_"
        )


def taken(values: Sequence[T], indices: Iterable[int]) -> list[T]:
    """The values at `indices`."""
    return [values[index] for index in indices]


Part = Callable[[int, Reading], Iterator[Chunk]]
"""The rows of a split or a file, at most so many at a time; at least one chunk, which may be empty."""


def grouped(
    records: Iterable[tuple[int, T]], size: int, read: Callable[[], int]
) -> Iterator[tuple[list[int], list[T]]]:
    """(Where they stand, records) of each chunk; at least one.

    Args:
        records: with the place of each.
        size: most records of a chunk.
        read: how many bytes were read so far.
    """
    numbers: list[int] = []
    group: list[T] = []
    begun, any_yet = 0, False
    for number, record in records:
        numbers.append(number)
        group.append(record)
        if len(group) == size or read() - begun > _MOST:
            yield numbers, group
            numbers, group, begun, any_yet = [], [], read(), True
    if group or not any_yet:
        yield numbers, group


def whole(place: str, part: Part, texts: Sequence[str], label: str, delimiter: str | None) -> Rows:
    """All texts and labels of a part; a `UserError` where they are more than half of the machine's memory."""
    reading = Reading([*texts, label], only=True, whole=True, delimiter=delimiter)
    found: list[Rows] = []
    size = 0
    for chunk in part(_WHOLE, reading):
        rows = chunk.rows(texts, label, "data.")
        if not chunk.typed:  # what a Parquet file holds is known before, and equal texts in it may be one
            size += sum(_ROW + sum(len(part) for part in parts(text)) for text in rows.texts)
        if size > machine_memory() // 2:
            raise UserError(f"{place}: the texts are more than half of this machine's memory")
        found.append(rows)
    return joined(place, found)


def parts(text: object) -> Sequence[str]:
    """The strings of a text or a pair; nothing of what is none, which is refused later."""
    return [part for part in (text if isinstance(text, tuple) else (text,)) if isinstance(part, str)]
