"""Local data sets: CSV, JSONL and Parquet files, alone or as the splits of a folder."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Found, Rows, check_columns
from flax_agnews.errors import UserError, listed

CLASSES_FILE = "classes.txt"
_JSON_EXAMPLE = 'must be a JSON object, such as {"text": "...", "label": 0}'
_LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is 131,072


def claims(source: str) -> bool:
    """Whether `source` means something local: it exists, or it is written as a path or file name."""
    written_as_path = source.startswith(("/", "./", "../", "~")) or source.count("/") > 1
    return not source or written_as_path or _suffix(source) in _READERS or _local(source).exists()


def is_single_file(source: str) -> bool:
    """Whether `source` is one file rather than a folder (or, where nothing exists, is named like one)."""
    path = _local(source)
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
        names = [line.strip() for line in _decoded(path).strip().splitlines()]
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise UserError(f"{path}: must have one class name a line, at least 2, all different")
    return names


def _csv(path: Path, config: DataConfig) -> Rows:
    """Rows of a CSV file with a header. Quoted fields may hold line breaks; blank lines are skipped."""
    (_, columns), *records = list(_csv_records(path))
    check_columns(config, str(path), columns)
    for line, fields in records:
        if len(fields) != len(columns):
            raise UserError(f"{path} line {line}: has {len(fields)} fields, but the header has {len(columns)}")
    text, label = columns.index(config.text_column), columns.index(config.label_column)
    texts, labels = [fields[text] for _, fields in records], [fields[label] for _, fields in records]
    return Rows(str(path), texts, labels, [line for line, _ in records], "line")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its fields. Never empty."""
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), strict=True)
    line = 1
    with _long_fields():
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path} line {line}: broken CSV: {error}") from error


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _jsonl(path: Path, config: DataConfig) -> Rows:
    """Rows of a file with one JSON object a line; blank lines are skipped."""
    lines = enumerate(_decoded(path).split("\n"), start=1)
    records = [(number, _json_object(path, number, line)) for number, line in lines if line.strip()]
    check_columns(config, str(path), list(records[0][1]))
    texts = [record.get(config.text_column) for _, record in records]
    labels = [record.get(config.label_column) for _, record in records]
    return Rows(str(path), texts, labels, [number for number, _ in records], "line")


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} line {number}: broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} line {number}: {_JSON_EXAMPLE}")
    return record


def _parquet(path: Path, config: DataConfig) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(config, str(path), file.schema_arrow.names)
            table = file.read(columns=[config.text_column, config.label_column])
        texts, labels = table[config.text_column].to_pylist(), table[config.label_column].to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken Parquet: {str(error).splitlines()[0]}") from error
    return Rows(str(path), texts, labels, range(1, len(texts) + 1))


def _decoded(path: Path) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped) that has more than white space."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8") from error
    if not text.strip():
        raise UserError(f"{path} is empty: rows with a text and a label are needed")
    return text


def _existing(source: str, setting: str) -> Path:
    path = _local(source)
    if not source or not path.exists():
        raise UserError(f"--data.{setting} {source}: no such file or folder")
    return path


def _local(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~ of a user who does not exist
        return Path(source)


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


_READERS: dict[str, Callable[[Path, DataConfig], Rows]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
