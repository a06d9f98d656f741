"""The one way in for files of every format and any size, a chunk at a time, and out again with more columns."""

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

__all__ = ["Added", "Chunk", "Reading"]  # named here for those who only read and write files

_ALL = Reading()


class Kind(NamedTuple):
    """A kind of file: how it is read, in chunks of so many rows at most, and how one is written."""

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
    """By the file's suffixes."""
    if kind := KINDS.get(layout.format_of(path)[0]):
        return kind
    raise UserError(f"{path}: must be a file that ends in {layout.allowed()}")


def read(path: Path, size: int, how: Reading = _ALL, split: str = "test") -> Iterator[Chunk]:
    """The rows of a file, of all files that a pattern matches, or of a folder's split; at least one chunk.

    Args:
        path: of a file or folder, or a pattern such as `parts/*.csv`.
        size: most rows of a chunk, which may also be empty.
        how: what they are read for.
        split: of a folder.

    Raises:
        UserError: it can't be read, or a folder has no such split.
    """
    if path.is_dir():
        yield from _of_folder(path, split)(size, how)
    else:
        yield from files_part(layout.matching(str(path)) if layout.is_pattern(str(path)) else [path])(size, how)


def parts(folder: Path) -> dict[str, Part]:
    """The splits of a folder, by name, in files or saved by `datasets`; one that was saved alone has the empty name."""
    found = arrow.saved_parts(folder)
    if found is not None:
        return found
    splits = layout.splits_of(folder)
    return {name: partial(_of_split, folder, paths) for name, paths in splits.items()}


def files_part(paths: Sequence[Path]) -> Part:
    """All rows of some files, one after the other."""
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
    """A file that takes its name when it is whole; what is there stays until then."""
    kind = kind_of(path)
    with drafted(path) as draft, ExitStack() as stack:
        yield kind.write(stack.enter_context(streams.writing(draft, layout.format_of(path)[1])), stack)
