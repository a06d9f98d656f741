"""Local data sets: CSV, JSONL and Parquet files, alone or as the splits of a folder."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flax_agnews.config import DataConfig
from flax_agnews.data.arrays import machine_memory
from flax_agnews.data.rows import MOST_CLASSES, Found, Rows, check_columns, side_by_side
from flax_agnews.errors import UserError, first_line, listed
from flax_agnews.files import expanded, parse_json

CLASSES_FILE = "classes.txt"
_JSON_EXAMPLE = 'must be a JSON object, such as {"text": "...", "label": 0}'
_LONGEST = 10_000_000  # characters of a line or a field: thousands of pages (the csv module's own limit is 131,072)


def claims(source: str) -> bool:
    """Whether `source` means something local: it exists, or it is written as a path or file name."""
    written_as_path = source.startswith(("/", "./", "../", "~")) or source.count("/") > 1
    return not source or written_as_path or _suffix(source) in _READERS or expanded(source).exists()


def is_single_file(source: str) -> bool:
    """Whether `source` is one file rather than a folder (or, where nothing exists, is named like one)."""
    path = expanded(source)
    return path.is_file() or (_suffix(source) in _READERS and not path.is_dir())


def load(config: DataConfig) -> Found:
    """The splits of a folder, or of a file and `test_source`."""
    path = _existing(config.source, "source")
    if path.is_dir():
        return _load_folder(path, config)
    if config.test_source is None:
        raise UserError(f"--data.source {config.source}: one file trains; name the other: --data.test_source FILE")
    test = _existing(config.test_source, "test_source")
    return Found({"train": read_file(path, config), "test": read_file(test, config)})


def read_file(path: Path, config: DataConfig) -> Rows:
    """The rows of one file, by its suffix; a `UserError` where it can't be read or lacks a column."""
    reader = _READERS.get(_suffix(path.name))
    if reader is None or not path.is_file():
        raise UserError(f"{path}: must be a file that ends in {', '.join(_READERS)}")
    try:
        return reader(path, config)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error


def _load_folder(folder: Path, config: DataConfig) -> Found:
    paths = {split: _split_file(folder, split) for split in ("train", "validation", "test")}
    splits = {split: read_file(path, config) for split, path in paths.items() if path is not None}
    return Found(splits, _class_names(folder / CLASSES_FILE))


def _split_file(folder: Path, split: str) -> Path | None:
    """The file of one split; None where there is no validation file."""
    names = [split + suffix for suffix in _READERS]
    files = [folder / name for name in names if (folder / name).exists()]
    if len(files) > 1:
        raise UserError(f"--data.source {folder}: has {listed(file.name for file in files)}; keep one of them")
    if not files and split != "validation":
        raise UserError(f"--data.source {folder}: has none of {listed(names)}")
    return files[0] if files else None


def _class_names(path: Path) -> list[str] | None:
    """One name a line, in the order of the class numbers; None where there is no such file."""
    if not path.exists():
        return None
    try:
        names = [line.strip() for line in "".join(_lines(path)).strip().splitlines()]
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    if not 2 <= len(names) <= MOST_CLASSES or "" in names or len(set(names)) < len(names):
        allowed = f"2 to {MOST_CLASSES:,}, all different"
        raise UserError(f"{path}: must have one class name a line, {allowed}")
    return names


def _csv(path: Path, config: DataConfig) -> Rows:
    """Rows of a CSV file with a header. Quoted fields may hold line breaks; blank lines are skipped."""
    wanted = [*config.text_columns, config.label_column]
    values: list[list[object]] = [[] for _ in wanted]
    numbers: list[int] = []
    with long_fields():
        records = csv_records(path, _lines(path, newline=""))
        _, columns = next(records, (1, [""]))
        if not any(name.strip() for name in columns):
            raise _empty(path)
        check_columns(config, str(path), columns)
        places = [columns.index(name) for name in wanted]
        for line, fields in records:
            check_width(path, line, fields, columns)
            for column, place in zip(values, places, strict=True):
                column.append(fields[place])
            numbers.append(line)
    *texts, labels = values
    return Rows(str(path), side_by_side(texts), labels, numbers, "line")


def csv_records(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its fields; blank lines are skipped."""
    reader, line = csv.reader(lines, strict=True), 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {line}: broken CSV: {error}") from error


def check_width(path: Path, line: int, fields: Sequence[str], columns: Sequence[str]) -> None:
    """Raises a `UserError` unless a record has as many fields as the header."""
    if len(fields) != len(columns):
        raise UserError(f"{path} line {line}: has {len(fields)} fields, but the header has {len(columns)}")


@contextmanager
def long_fields() -> Iterator[None]:
    """Lets fields be as long as any text."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _jsonl(path: Path, config: DataConfig) -> Rows:
    """Rows of a file with one JSON object a line; blank lines are skipped."""
    lines = enumerate(_lines(path, newline="\n"), start=1)
    records = [(number, json_object(path, number, line)) for number, line in lines if line.strip()]
    if not records:
        raise _empty(path)
    check_columns(config, str(path), list(records[0][1]))
    *texts, labels = (
        [record.get(column) for _, record in records] for column in [*config.text_columns, config.label_column]
    )
    return Rows(str(path), side_by_side(texts), labels, [number for number, _ in records], "line")


def json_object(path: Path, number: int, line: str) -> dict[str, object]:
    """The object that a line is; a `UserError` where it is none."""
    try:
        record = parse_json(line)
    except ValueError as error:
        raise UserError(f"{path} line {number}: broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} line {number}: {_JSON_EXAMPLE}")
    return record


def _parquet(path: Path, config: DataConfig) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [*config.text_columns, config.label_column]
    try:
        with pq.ParquetFile(path) as file:
            check_columns(config, str(path), file.schema_arrow.names)
            metadata = file.metadata
        _check_claims(path, metadata, wanted)
        strings = [name for name in wanted if name in _strings(metadata)]
        # As a dictionary, a string that stands in a million rows is read once.
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=strings) as file:
            table = file.read(columns=wanted)
        *texts, labels = (_values(table[name]) for name in wanted)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken Parquet: {first_line(error)}") from error
    return Rows(str(path), side_by_side(texts), labels, range(1, len(labels) + 1))


def _strings(metadata: Any) -> set[str]:
    """The columns of a Parquet file that hold strings."""
    columns = (metadata.schema.column(number) for number in range(metadata.num_columns))
    return {column.path for column in columns if column.physical_type == "BYTE_ARRAY"}


def _check_claims(path: Path, metadata: Any, wanted: Sequence[str]) -> None:
    """Refuses a Parquet file that says it is more than the machine can hold, before space is taken for it."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted)
    rows = max([metadata.num_rows, sum(group.num_rows for group in groups), *(c.num_values for c in columns)])
    if max(size, 16 * rows) > machine_memory() // 2:  # a row takes two references of 8 bytes at least
        what = f"{rows:,} rows and {size / 1e9:,.0f} GB of texts and labels"
        raise UserError(f"{path}: says that it has {what}: more than half of this machine's memory")


def _values(column: Any) -> list[object]:
    """A column's values; equal strings of a dictionary are one object."""
    values: list[object] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            distinct = chunk.dictionary.to_pylist()
            values += [None if number is None else distinct[number] for number in chunk.indices.to_pylist()]
        else:
            values += chunk.to_pylist()
    return values


def _lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends (as `open` has them); a byte order mark is dropped."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            number = 1
            while line := file.readline(_LONGEST + 1):
                if len(line) > _LONGEST:
                    raise UserError(f"{path} line {number}: has more than {_LONGEST:,} characters")
                yield line
                number += 1
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error


def _not_utf8(path: Path) -> UserError:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                odd = f"byte 0x{line[error.start]:02x} is not UTF-8"
                return UserError(f"{path} line {number}: {odd}; save it as UTF-8")
    return UserError(f"{path} is not UTF-8; save it as UTF-8")


def _empty(path: Path) -> UserError:
    return UserError(f"{path} is empty: rows with a text and a label are needed")


def _existing(source: str, setting: str) -> Path:
    path = expanded(source)
    if not source or not path.exists():
        raise UserError(f"--data.{setting} {source}: no such file or folder")
    return path


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


_READERS: dict[str, Callable[[Path, DataConfig], Rows]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
