"""Reads files of all formats in chunks, so that they can be larger than memory, and writes them with added columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flax_agnews.data import arrow, delimited, json_rows, layout, streams
from flax_agnews.data.chunks import Added, Chunk, Part, Reading, Write
from flax_agnews.errors import UserError, listed
from flax_agnews.system.files import drafted

__all__ = ["Added", "Chunk", "Reading"]  # re-exported for callers that only read and write files

_ALL = Reading()


class Kind(NamedTuple):
    """A file format: the functions that read it in chunks and write it."""

    chunks: Callable[[Path, int, Reading], Iterator[Chunk]]
    write: Callable[[Any, ExitStack], Write]


_CSV = Kind(delimited.chunks, delimited.writer)
KINDS: Mapping[str, Kind] = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".json": Kind(json_rows.chunks, json_rows.writer),
    ".jsonl": Kind(json_rows.line_chunks, json_rows.line_writer),
    ".parquet": Kind(arrow.parquet_chunks, arrow.parquet_writer),
}


def kind_of(path: Path) -> Kind:
    """The format of a file, by its suffixes."""
    if kind := KINDS.get(layout.format_of(path)[0]):
        return kind
    raise UserError(f"{path}: must be a file that ends in {layout.allowed()}")


def read(path: Path, size: int, how: Reading = _ALL, split: str = "test") -> Iterator[Chunk]:
    """Reads a file, the files of a pattern, or a folder's split in chunks; at least one chunk, which may be empty.

    Args:
        path: a file, a folder, or a glob pattern such as `parts/*.csv`.
        size: largest number of rows in a chunk.
        how: options for reading.
        split: name of the split, if `path` is a folder.

    Raises:
        UserError: a file can't be read, or the folder has no such split.
    """
    if path.is_dir():
        yield from _of_folder(path, split)(size, how)
    else:
        yield from files_part(layout.matching(str(path)) if layout.is_pattern(str(path)) else [path])(size, how)


def parts(folder: Path) -> dict[str, Part]:
    """Split name -> rows of a folder of files, or one that `datasets` saved (a single split has the empty name)."""
    found = arrow.saved_parts(folder)
    if found is not None:
        return found
    splits = layout.splits_of(folder)
    return {name: partial(_of_split, folder, paths) for name, paths in splits.items()}


def files_part(paths: Sequence[Path]) -> Part:
    """The rows of several files, one file after the other."""
    return partial(_of_files, paths)


def _of_folder(folder: Path, split: str) -> Part:
    found = parts(folder)
    if part := found.get("", found.get(split)):
        return part
    have = f"has the splits {listed(found)}" if found else "has no files of splits"
    raise UserError(f"{folder}: {have}, not {split}; give the file instead")


def _of_split(folder: Path, paths: Sequence[Path], size: int, how: Reading) -> Iterator[Chunk]:
    yield from _of_files(layout.complete(folder, paths), size, how)


def _of_files(paths: Sequence[Path], size: int, how: Reading) -> Iterator[Chunk]:
    for before, path in enumerate(paths):
        try:
            for chunk in kind_of(path).chunks(path, size, how):
                yield replace(chunk, done=(before + chunk.done) / len(paths)) if len(paths) > 1 else chunk
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except OSError as error:
            raise UserError(f"{path} can't be read: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """A context for writing a file atomically in the format of its suffix; an earlier file is replaced at the end."""
    kind = kind_of(path)
    with drafted(path) as draft, ExitStack() as stack:
        yield kind.write(stack.enter_context(streams.writing(draft, layout.format_of(path)[1])), stack)
