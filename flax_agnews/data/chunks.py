"""`Chunk`, consecutive rows of a file: the common result of all readers, from which texts and labels are taken."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from flax_agnews.data.rows import Rows, check_columns, joined, path_in, side_by_side
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.system.machine import machine_memory

T = TypeVar("T")

_MOST = 1 << 25  # bytes after which a chunk ends, even if it has few rows
_WHOLE = 1 << 14  # rows per chunk when a whole file is read into memory
_ROW = 100  # approximate bytes of memory per row, besides its characters


@dataclass(frozen=True)
class Reading:
    """Options for reading a file.

    Attributes:
        wanted: columns that will be used; the delimiter of a CSV file is detected such that its header has them.
        only: whether to read only these columns; by default all are read, so that they can be written again.
        whole: whether all rows will be in memory at once; files that can't fit are then refused before reading.
        delimiter: delimiter of CSV files, one character or `tab`; None detects it in the header.
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
        columns: names of the columns; for a JSON file those of its first row.
        records: the rows, as the reader and writer of the file's format represent them.
        numbers: number of each row in the file, from 1.
        unit: the unit of `numbers`, such as `line`.
        done: share of the file that has been read.
        column: function from a column's name to its values.
        fields: column -> its nested columns by name, if it has any.
        declared: function from a column's name to the class names that its type declares, or None.
        typed: whether columns have types, in which case null means an unlabelled row; otherwise it is an error.
        delimiter: the delimiter of a CSV file.
        array: whether the file is one JSON array rather than lines of JSON.
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
        """The unchecked texts and labels; rows with null labels in typed columns are left out.

        Args:
            texts: column of the texts; two for pairs. Nested columns are written with dots: `meta.text`.
            label: column of the labels; None reads no labels.
            section: prefix of setting names in errors, such as `data.`.

        Raises:
            UserError: a column is missing, or several have that name.
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
"""Writes the next chunk and its new columns. All chunks must have the same format and new columns."""


def check_new(place: str, columns: Collection[str], added: Iterable[str]) -> None:
    """Raises a `UserError` if a new column has the name of an existing one."""
    if there := [name for name in added if name in columns]:
        raise UserError(
            f"{place}: has {listed(there)} already; name the new columns otherwise: {flag('prefix')} answered_"
        )


def taken(values: Sequence[T], indices: Iterable[int]) -> list[T]:
    """Selects the values at `indices`."""
    return [values[index] for index in indices]


Part = Callable[[int, Reading], Iterator[Chunk]]
"""Function that reads a split or file in chunks of at most so many rows; at least one chunk, which may be empty."""


def grouped(
    records: Iterable[tuple[int, T]], size: int, read: Callable[[], int]
) -> Iterator[tuple[list[int], list[T]]]:
    """Groups records into chunks of (row numbers, records); at least one, which may be empty.

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
    """Reads all texts and labels of a file or split. UserError if they need more than half of the memory."""
    reading = Reading([*texts, label], only=True, whole=True, delimiter=delimiter)
    found: list[Rows] = []
    size = 0
    for chunk in part(_WHOLE, reading):
        rows = chunk.rows(texts, label, "data.")
        if not chunk.typed:  # Parquet files are checked before reading, and equal texts of them share memory
            size += sum(_ROW + sum(len(part) for part in parts(text)) for text in rows.texts)
        if size > machine_memory() // 2:
            raise UserError(f"{place}: the texts are more than half of this machine's memory")
        found.append(rows)
    return joined(place, found)


def parts(text: object) -> Sequence[str]:
    """The strings in a text or pair of texts, without values of other types, which are refused later."""
    return [part for part in (text if isinstance(text, tuple) else (text,)) if isinstance(part, str)]
