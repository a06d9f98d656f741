"""Loads local data sets: files in any format that `tables` reads, glob patterns, and folders with splits."""

import itertools
from pathlib import Path

from flax_agnews.config import DataConfig
from flax_agnews.data import layout, splits, streams, tables
from flax_agnews.data.chunks import Part, whole
from flax_agnews.data.rows import MOST_CLASSES, Found, Rows
from flax_agnews.errors import UserError, flag
from flax_agnews.system.files import expanded

CLASSES_FILE = "classes.txt"


def claims(source: str) -> bool:
    """Whether `source` is local: it exists, or is written as a path, glob pattern or file name."""
    written_as_path = source.startswith(("/", "./", "../", "~")) or source.count("/") > 1
    named = written_as_path or layout.is_pattern(source) or layout.format_of(source)[0]
    return not source or bool(named) or expanded(source).exists()


def is_single_file(source: str) -> bool:
    """Whether `source` is a file or pattern rather than a folder; one that doesn't exist is judged by its name."""
    path = expanded(source)
    return path.is_file() or (not path.is_dir() and bool(layout.is_pattern(source) or layout.format_of(source)[0]))


def load(config: DataConfig) -> Found:
    """Reads the splits of a folder, or single files (`data.source` and `data.test_source`)."""
    path = expanded(config.source)
    if config.source and path.is_dir():
        return _load_folder(path, config)
    train = _files(config.source, "source")
    splits.refuse_names(config, f"{config.source} is none")
    found = {"train": _whole(config.source, train, config)}
    if config.test_source is not None:
        found["test"] = _whole(config.test_source, _files(config.test_source, "test_source"), config)
    elif config.test_fraction is None:
        share = f"{flag('data.test_fraction')} 0.1 holds that share of its rows out"
        ways = f"{flag('data.test_source')} FILE, or {share}"
        raise UserError(f"{flag('data.source')} {config.source}: trains; name what tests: {ways}")
    return Found(found)


def _load_folder(folder: Path, config: DataConfig) -> Found:
    place = layout.configured(folder, config.config)
    parts = tables.parts(place)
    if "" in parts:
        splits.refuse_names(config, f"{place} has one split")
        return Found({"train": _whole(str(place), parts[""], config)})
    configurations = layout.configurations(place, config.train_split) if config.train_split not in parts else []
    if configurations:
        raise UserError(
            f"{place}: has several data sets; name one: {flag('data.config')} {' or '.join(configurations)}"
        )
    if not parts:
        example = f"{config.train_split}{layout.FORMATS[0]}"
        raise UserError(f"{flag('data.source')} {place}: has no file {example}, or one that ends in {layout.allowed()}")
    chosen = splits.choose(str(place), list(parts), config)
    rows = {split: _whole(f"{place} {name}", parts[name], config) for split, name in chosen.items()}
    return Found(rows, _class_names(place / CLASSES_FILE), splits.notes(chosen), chosen)


def _whole(place: str, part: Part, config: DataConfig) -> Rows:
    return whole(place, part, config.text_columns, config.label_column, config.delimiter)


def _files(source: str, setting: str) -> Part:
    if layout.is_pattern(source):
        return tables.files_part(layout.matching(source))
    path = expanded(source)
    if not source or not path.exists():
        raise UserError(f"{flag(f'data.{setting}')} {source}: no such file or folder")
    if not path.is_file():
        raise UserError(f"{path}: must be a file that ends in {layout.allowed()}")
    return tables.files_part([path])


def _class_names(path: Path) -> list[str] | None:
    """Reads class names, one per line in the order of class numbers; None if there is no such file."""
    if not path.exists():
        return None
    try:
        with streams.reading(path) as lines:
            first = itertools.islice(lines, 2 * MOST_CLASSES)  # some may be blank
            names = "".join(line.rstrip("\r\n") + "\n" for line in first).strip("\n").split("\n")
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    if not 2 <= len(names) <= MOST_CLASSES or not all(map(str.strip, names)) or len(set(names)) < len(names):
        allowed = f"2 to {MOST_CLASSES:,}, all different"
        raise UserError(f"{path}: must have one class name a line, {allowed}")
    return names
