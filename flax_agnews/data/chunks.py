"""Chunks, consecutive rows of a file: the common result of all readers, from which texts and labels are taken."""

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
    """Options for reading a file.

    Attributes:
        wanted: columns that will be used; a CSV's delimiter is found such that its header has them.
        only: read no other columns; by default all are read, so that they can be written again.
        whole: all rows will be in memory at once; a file that can't fit is refused before reading.
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
        place: path of the file.
        columns: names of the columns; in a JSON file those of the first row.
        records: the rows, in the form of the file's format.
        numbers: number of each row in the file, from 1.
        unit: the unit of `numbers`, such as `line`.
        done: share of the file that has been read.
        column: name -> its values.
        fields: column -> its nested columns by name, where it has some.
        declared: column -> class names that its type declares.
        typed: whether the columns have types, so that null means an unlabelled row rather than a mistake.
        delimiter: a CSV file's delimiter.
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
        """Unchanged texts, and labels where a column is named; rows with null labels in typed columns are left out.

        Args:
            texts: column of the texts; two for pairs. Dots lead into nested columns: `meta.text`.
            label: column of the labels.
            section: prefix of setting names in errors, such as `data.`.

        Raises:
            UserError: a column is missing, or there are several of that name.
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
    """Raises a `UserError` where a new column has the name of an existing one."""
    if there := [name for name in added if name in columns]:
        raise UserError(
            f"{place}: has {listed(there)} already; name the new columns otherwise: {flag('prefix')} answered_"
        )


def taken(values: Sequence[T], indices: Iterable[int]) -> list[T]:
    """Selects the values at `indices`."""
    return [values[index] for index in indices]


Part = Callable[[int, Reading], Iterator[Chunk]]
"""The rows of a split or a file, at most so many at a time; at least one chunk, which may be empty."""


def grouped(
    records: Iterable[tuple[int, T]], size: int, read: Callable[[], int]
) -> Iterator[tuple[list[int], list[T]]]:
    """Groups records into chunks: (row numbers, records), at least one chunk.

    Args:
        records: pairs of a row number and a record.
        size: largest number of records in a chunk.
        read: returns the number of bytes read so far.
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
    """Reads all texts and labels of a file or split. UserError for more than half of the memory."""
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
    """The strings of a text or pair; none of other values, which are refused later."""
    return [part for part in (text if isinstance(text, tuple) else (text,)) if isinstance(part, str)]
