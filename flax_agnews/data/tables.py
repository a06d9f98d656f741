"""Files of texts of any size, read and written again with more columns, a chunk of rows at a time."""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from flax_agnews.data.files import check_width, csv_records, json_object, long_fields
from flax_agnews.data.rows import Rows, side_by_side
from flax_agnews.errors import UserError, first_line, listed, shown
from flax_agnews.files import draft_of, move

_LONGEST = 1 << 26  # bytes of a line
_CHUNK = 1 << 25  # bytes after which a chunk ends, however few rows it has


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        place: the file.
        columns: their names; in a JSONL file those of the first row.
        records: the rows, as the file's kind has them.
        numbers: where each stands, counted from 1.
        unit: what `numbers` count.
        done: share of the file that is read.
        column: name -> its values.
    """

    place: str
    columns: Sequence[str]
    records: Any
    numbers: Sequence[int]
    unit: str
    done: float
    column: Callable[[str], list[object]]

    def rows(self, texts: Sequence[str], label: str | None = None) -> Rows:
        """Texts, and labels where a column is named, as they stand; a `UserError` where there is no such column."""
        for setting, name in (*(("text_column", text) for text in texts), ("label_column", label)):
            if name is not None and self.columns.count(name) != 1:
                count = self.columns.count(name)
                have = f"{shown(name)} {count} times" if count else listed(map(shown, self.columns))
                raise UserError(f"--{setting} {name}: {self.place} has the columns {have}")
        labels = [] if label is None else self.column(label)
        return Rows(self.place, side_by_side([self.column(text) for text in texts]), labels, self.numbers, self.unit)


Added = Mapping[str, list[str] | np.ndarray]
"""New columns of a chunk: name -> values, strings or float32."""

Write = Callable[[Chunk, Added], None]
"""Writes the next rows; all must come from a file of the same kind, and get the same new columns."""


class Kind(NamedTuple):
    """A kind of file: how it is read, in chunks of so many rows at most, and how one is written."""

    chunks: Callable[[Path, int], Iterator[Chunk]]
    write: Callable[[Path, ExitStack], Write]


def kind_of(path: Path) -> Kind:
    """By the file's suffix."""
    if kind := KINDS.get(path.suffix.lower()):
        return kind
    raise UserError(f"{path}: must be a file that ends in {', '.join(KINDS)}")


def read(path: Path, size: int) -> Iterator[Chunk]:
    """A file's rows, at most `size` at a time; at least one chunk, which may be empty."""
    kind = kind_of(path)
    try:
        yield from kind.chunks(path, size)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """A file that takes its name when it is whole; what is there stays until then."""
    draft = draft_of(path)
    try:
        with ExitStack() as stack:
            yield kind_of(path).write(draft, stack)
        move(draft, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def check_new(place: str, columns: Collection[str], added: Iterable[str]) -> None:
    """Raises a `UserError` where a table has columns already that are to be added."""
    if taken := [name for name in added if name in columns]:
        raise UserError(f"{place}: has {listed(taken)} already; name the new columns otherwise: --prefix answered_")


class _Lines:
    """A UTF-8 file's lines with their ends, decoded one by one; a byte order mark is dropped.

    Attributes:
        number: of the last line, from 1.
        bytes: read so far.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.number, self.bytes, self._path, self._file = 0, 0, path, file
        self._size = max(1, path.stat().st_size)

    @property
    def done(self) -> float:
        return min(1.0, self.bytes / self._size)

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(_LONGEST + 1):
            self.number, self.bytes = self.number + 1, self.bytes + len(line)
            if len(line) > _LONGEST:
                raise UserError(f"{self._path} line {self.number}: is longer than {_LONGEST:,} bytes")
            try:
                yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                odd = f"byte 0x{line[error.start]:02x} is not UTF-8"
                raise UserError(f"{self._path} line {self.number}: {odd}; save it as UTF-8") from error


def _grouped(records: Iterable[tuple[int, Any]], lines: _Lines, size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """(Lines on which they stand, records) of each chunk; at least one."""
    numbers: list[int] = []
    group: list[Any] = []
    begun, any_yet = 0, False
    for number, record in records:
        numbers.append(number)
        group.append(record)
        if len(group) == size or lines.bytes - begun > _CHUNK:
            yield numbers, group
            numbers, group, begun, any_yet = [], [], lines.bytes, True
    if group or not any_yet:
        yield numbers, group


def _csv_chunks(path: Path, size: int) -> Iterator[Chunk]:
    """Rows of a CSV file with a header. Quoted fields may hold line breaks; blank lines are skipped."""
    with path.open("rb") as file, long_fields():
        lines = _Lines(path, file)
        records = csv_records(path, lines)
        _, columns = next(records, (1, None))
        if columns is None:
            raise UserError(f"{path} is empty: a header with the columns' names is needed")
        for numbers, group in _grouped(records, lines, size):
            for number, fields in zip(numbers, group, strict=True):
                check_width(path, number, fields, columns)

            def column(name: str, group: list[list[str]] = group, place: Sequence[str] = columns) -> list[object]:
                return [fields[place.index(name)] for fields in group]

            yield Chunk(str(path), columns, group, numbers, "line", lines.done, column)


def _csv_writer(path: Path, stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
    plain, quoted = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    begun: list[bool] = []

    def write(chunk: Chunk, added: Added) -> None:
        if not begun:
            check_new(chunk.place, chunk.columns, added)
            plain.writerow([*chunk.columns, *added])
            begun.append(True)
        for record, *new in zip(chunk.records, *added.values(), strict=True):
            # Where lines end in \n alone, Python 3.11 leaves a field with a bare \r unquoted, and can't read it again.
            (quoted if any("\r" in field for field in record) else plain).writerow([*record, *new])

    return write


def _jsonl_chunks(path: Path, size: int) -> Iterator[Chunk]:
    """Rows of a file with one JSON object a line; blank lines are skipped."""
    with path.open("rb") as file:
        lines = _Lines(path, file)
        records = ((lines.number, json_object(path, lines.number, line)) for line in lines if line.strip())
        columns: list[str] = []
        for numbers, group in _grouped(records, lines, size):
            columns = columns or list(group[0] if group else ())

            def column(name: str, group: list[dict[str, object]] = group) -> list[object]:
                return [record.get(name) for record in group]

            yield Chunk(str(path), columns, group, numbers, "line", lines.done, column)


def _jsonl_writer(path: Path, stack: ExitStack) -> Write:
    # Half of a surrogate pair, which JSON can write and UTF-8 can't, is written as JSON's escape again.
    file = stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n"))

    def write(chunk: Chunk, added: Added) -> None:
        for record, *new in zip(chunk.records, *added.values(), strict=True):
            check_new(chunk.place, record, added)
            plain = (value if isinstance(value, str) else float(str(value)) for value in new)
            file.write(json.dumps({**record, **dict(zip(added, plain, strict=True))}, ensure_ascii=False) + "\n")

    return write


def _parquet_chunks(path: Path, size: int) -> Iterator[Chunk]:
    """Rows of a Parquet file; of a group of rows as the file has it, all are in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows, columns, before = file.metadata.num_rows, file.schema_arrow.names, 0
            empty = pa.RecordBatch.from_pylist([], file.schema_arrow)
            for batch in file.iter_batches(batch_size=size) if rows else [empty]:
                numbers = range(before + 1, before + len(batch) + 1)
                before += len(batch)

                def column(name: str, batch: pa.RecordBatch = batch) -> list[object]:
                    return batch.column(name).to_pylist()

                yield Chunk(str(path), columns, batch, numbers, "row", before / max(1, rows), column)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken Parquet: {first_line(error)}") from error


def _parquet_writer(path: Path, stack: ExitStack) -> Write:
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened: list[pq.ParquetWriter] = []

    def write(chunk: Chunk, added: Added) -> None:
        check_new(chunk.place, chunk.columns, added)
        table = chunk.records
        for name, values in added.items():
            kind = pa.float32() if isinstance(values, np.ndarray) else pa.string()
            table = table.append_column(name, pa.array(values, kind))
        if not opened:
            opened.append(stack.enter_context(pq.ParquetWriter(path, table.schema)))
        opened[0].write_batch(table)

    return write


KINDS: Mapping[str, Kind] = {
    ".csv": Kind(_csv_chunks, _csv_writer),
    ".jsonl": Kind(_jsonl_chunks, _jsonl_writer),
    ".parquet": Kind(_parquet_chunks, _parquet_writer),
}
