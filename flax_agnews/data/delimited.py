"""Reads CSV and TSV files in chunks, and writes them again with added columns."""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flax_agnews.data import streams
from flax_agnews.data.chunks import Added, Chunk, Reading, Write, check_new, grouped
from flax_agnews.data.layout import format_of
from flax_agnews.errors import UserError

_DELIMITERS = (",", "\t", ";", "|")


def chunks(path: Path, size: int, how: Reading) -> Iterator[Chunk]:
    """Reads a file with a header in chunks. Quoted fields may contain line breaks; blank lines are skipped."""
    with streams.reading(path) as text, _long_fields():
        lines = iter(text)
        skipped, first = _until_filled(lines)
        given = "\t" if how.delimiter == "tab" else how.delimiter
        delimiter = given or _delimiter(first, format_of(path)[0] == ".tsv", how.wanted)
        records = _records(path, itertools.chain(skipped, [first], lines), delimiter)
        _, columns = next(records, (1, [""]))
        if not any(name.strip() for name in columns):
            raise UserError(f"{path} is empty: a header with the columns' names is needed, and rows")
        if any(columns.count(name) != 1 for name in how.wanted):  # before a wrong delimiter breaks rows
            records = iter(())
        for numbers, group in grouped(records, size, lambda: text.bytes):
            for number, fields in zip(numbers, group, strict=True):
                _check_width(path, number, fields, columns)

            def column(name: str, group: list[list[str]] = group, place: Sequence[str] = columns) -> list[object]:
                return [fields[place.index(name)] for fields in group]

            yield Chunk(str(path), columns, group, numbers, "line", text.done(), column, delimiter=delimiter)


def _until_filled(lines: Iterator[str]) -> tuple[list[str], str]:
    """Reads up to the first line that isn't blank: (blank lines before it, that line, or empty if there is none)."""
    blank: list[str] = []
    for line in lines:
        if line.strip("\r\n"):
            return blank, line
        blank.append(line)
    return blank, ""


def _delimiter(header: str, tabs: bool, wanted: Sequence[str]) -> str:
    """Detects the delimiter: one with which the header has the wanted columns.

    Without any such, it is the format's own if that splits the header, else the one that splits it most.

    Args:
        header: the header line.
        tabs: whether the file is a TSV file.
        wanted: names of columns that the header should have.
    """
    own = "\t" if tabs else ","
    found = {mark: _fields(header, mark) for mark in dict.fromkeys([own, *_DELIMITERS])}
    fitting = [mark for mark, columns in found.items() if wanted and set(wanted) <= set(columns)]
    if fitting or len(found[own]) > 1:
        return fitting[0] if fitting else own
    return max(found, key=lambda mark: len(found[mark]))


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _records(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Iterates over (number of a record's first line, its fields), skipping blank lines."""
    reader, line = csv.reader(lines, strict=True, delimiter=delimiter), 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        quotes = "" if "limit" in str(error) else "; quotes inside of a quoted field must be doubled"
        raise UserError(f"{path} line {line}: broken CSV: {error}{quotes}") from error


def _check_width(path: Path, line: int, fields: Sequence[str], columns: Sequence[str]) -> None:
    if len(fields) != len(columns):
        raise UserError(f"{path} line {line}: has {len(fields)} fields, but the header has {len(columns)}")


@contextmanager
def _long_fields() -> Iterator[None]:
    """A context that raises the `csv` module's limit on the length of a field."""
    before = csv.field_size_limit(streams.LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def writer(file: Any, stack: ExitStack) -> Write:
    """Writes chunks with new columns to a binary file, with the delimiter of the first one.

    Args:
        file: the binary file.
        stack: closes the text wrapper before the file.
    """
    text = stack.enter_context(io.TextIOWrapper(file, encoding="utf-8", newline=""))
    begun: list[Callable[[list[Any]], None]] = []

    def write(chunk: Chunk, added: Added) -> None:
        if not begun:
            check_new(chunk.place, chunk.columns, added)
            begun.append(_row_writer(text, chunk.delimiter or ","))
            begun[0]([*chunk.columns, *added])
        for record, *new in zip(chunk.records, *added.values(), strict=True):
            begun[0]([*record, *new])

    return write


def _row_writer(file: io.TextIOWrapper, delimiter: str) -> Callable[[list[Any]], None]:
    """Returns a function that writes a row, quoted such that it can be read back unchanged."""
    plain, quoted = (
        csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=how)
        for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )

    def write(row: list[Any]) -> None:
        # Where lines end in \n alone, Python 3.11 leaves a field with a bare \r unquoted, and can't read it again.
        (quoted if any(isinstance(field, str) and "\r" in field for field in row) else plain).writerow(row)

    return write
