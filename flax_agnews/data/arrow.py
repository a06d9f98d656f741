"""Reads Parquet files and data sets of the `datasets` library in chunks, and writes Parquet files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.data.chunks import Added, Chunk, Part, Reading, Write, check_new
from flax_agnews.data.rows import path_in
from flax_agnews.errors import UserError, first_line, shown
from flax_agnews.system.files import parse_json
from flax_agnews.system.machine import machine_memory

_DEEPEST = 10  # levels of nested columns that can be named


def parquet_chunks(path: Path, size: int, how: Reading) -> Iterator[Chunk]:
    """Reads a Parquet file in chunks, with one of its row groups in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
        heads = _heads(schema, how)
        if how.whole:
            _check_claims(path, metadata, heads or ())
        # Dictionary columns hold a string that occurs in a million rows only once.
        strings = [name for name in heads or () if name in _strings(metadata)]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=strings) as file:
            batches = file.iter_batches(batch_size=size, columns=heads) if metadata.num_rows and heads != [] else ()
            yield from _chunks(str(path), schema, batches, metadata.num_rows)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken Parquet: {first_line(error)}") from error


def saved_parts(folder: Path) -> dict[str, Part] | None:
    """Split name -> rows of a folder that `save_to_disk` wrote; a single split is named "". None if it isn't one."""
    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    import pyarrow as pa
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise UserError(f"{folder}: can't be read as a data set of save_to_disk: {first_line(error)}") from error
    splits = found if isinstance(found, DatasetDict) else {"": found}
    return {name: dataset_part(f"{folder} {name}".rstrip(), dataset) for name, dataset in splits.items()}


def dataset_part(place: str, dataset: Any) -> Part:
    """The rows of a `datasets.Dataset`, with undecoded values."""
    return partial(_dataset_chunks, place, dataset)


def _dataset_chunks(place: str, dataset: Any, size: int, how: Reading) -> Iterator[Chunk]:
    import pyarrow as pa

    schema = dataset.features.arrow_schema
    heads = _heads(schema, how)
    tables: Iterable[Any] = ()
    if heads != [] and len(dataset):
        chosen = dataset if heads is None else dataset.select_columns(heads)
        tables = chosen.with_format("arrow").iter(batch_size=size)
    try:
        yield from _chunks(place, schema, tables, len(dataset))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{place}: broken data set: {first_line(error)}") from error


def _chunks(place: str, schema: Any, batches: Iterable[Any], rows: int) -> Iterator[Chunk]:
    """Makes chunks of Arrow batches; at least one, which is empty if there are no rows."""
    import pyarrow as pa

    fields = {field.name: _inner(field.type, _DEEPEST) for field in schema}
    values, declared = _Values(place), _declared(schema)
    before = 0

    def chunk(batch: Any) -> Chunk:
        numbers = range(before - len(batch) + 1, before + 1)
        column = partial(values.of, batch)
        done = before / max(1, rows)
        return Chunk(place, schema.names, batch, numbers, "row", done, column, fields, declared, typed=True)

    for batch in batches:
        before += len(batch)
        yield chunk(batch)
    if not before:
        yield chunk(pa.RecordBatch.from_pylist([], schema))


def _heads(schema: Any, how: Reading) -> list[str] | None:
    """Top-level columns to read; None for all, and [] if a wanted column is missing."""
    if not how.only:
        return None
    fields = {field.name: _inner(field.type, _DEEPEST) for field in schema}
    paths = [path_in(fields, name) for name in how.wanted]
    return list(dict.fromkeys(path[0] for path in paths)) if all(paths) else []


def _inner(kind: Any, depth: int) -> dict[str, Any] | None:
    """Fields of a struct type by name, with their own fields, down to `depth` levels; None for other types."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or not depth:
        return None
    fields = (kind.field(number) for number in range(kind.num_fields))
    return {field.name: _inner(field.type, depth - 1) for field in fields}


def _declared(schema: Any) -> Callable[[str], list[str] | None]:
    """A function that gives a column's class names if `datasets` wrote a ClassLabel into the schema, else None."""
    try:
        features = parse_json(schema.metadata[b"huggingface"].decode())["info"]["features"]
    except (TypeError, KeyError, ValueError):
        features = {}

    def names(column: str) -> list[str] | None:
        found: Any = features
        for key in path_in(features, column) if isinstance(features, Mapping) else ():
            found = found[key]
        known = found.get("names") if isinstance(found, Mapping) and found.get("_type") == "ClassLabel" else None
        return list(known) if isinstance(known, list) and all(isinstance(name, str) for name in known) else None

    return names


def _strings(metadata: Any) -> set[str]:
    """Names of a Parquet file's string columns."""
    columns = (metadata.schema.column(number) for number in range(metadata.num_columns))
    return {column.path for column in columns if column.physical_type == "BYTE_ARRAY"}


def _check_claims(path: Path, metadata: Any, heads: Sequence[str]) -> None:
    """Raises a `UserError` if a Parquet file is too large for the memory according to its metadata."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in heads)
    rows = max([metadata.num_rows, sum(group.num_rows for group in groups), *(c.num_values for c in columns)])
    if max(size, 16 * rows) > machine_memory() // 2:  # a row takes two references of 8 bytes at least
        what = f"{rows:,} rows and {size / 1e9:,.0f} GB of texts and labels"
        raise UserError(f"{path}: says that it has {what}: more than half of this machine's memory")


class _Values:
    """Converts columns to Python values; equal strings of a dictionary column become the same object in all batches."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._known: dict[str, tuple[Any, list[object]]] = {}

    def of(self, batch: Any, name: str) -> list[object]:
        """The Python values of one column of a batch or table."""
        import pyarrow as pa

        try:
            return self._read(batch, name)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise UserError(f"{self._place}: broken column {shown(name)}: {first_line(error)}") from error

    def _read(self, batch: Any, name: str) -> list[object]:
        column, values = batch.column(name), list[object]()
        for chunk in getattr(column, "chunks", [column]):
            if hasattr(chunk, "dictionary"):
                known, distinct = self._known.get(name, (None, []))
                if known is None or not known.equals(chunk.dictionary):
                    distinct = chunk.dictionary.to_pylist()
                    self._known[name] = chunk.dictionary, distinct
                values += [None if number is None else distinct[number] for number in chunk.indices.to_pylist()]
            else:
                values += chunk.to_pylist()
        return values


def parquet_writer(file: Any, stack: ExitStack) -> Write:
    """Writes chunks with new columns to a binary file as Parquet, with the first chunk's types."""
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
            opened.append(stack.enter_context(pq.ParquetWriter(file, table.schema)))
        opened[0].write_batch(table)

    return write
