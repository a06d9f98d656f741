"""A cache of large arrays within a size limit: in files that are memory-mapped and checked, or in memory."""

import errno
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flax_agnews.errors import OneLineError, UserError, flag
from flax_agnews.system.files import draft_of, read_json, write_json
from flax_agnews.system.machine import machine_memory

_VALUES, _ABOUT = "values", "about.json"
_SPARE = 10**9  # bytes of a disk that stay free
_CHUNK = 1 << 24  # bytes that a checksum reads at once


class NoRoom(OneLineError):
    """Raised where arrays don't fit; its text says why."""


class Arrays(Protocol):
    """A cache of arrays.

    Attributes:
        place: where the arrays are, in words.
    """

    place: str

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """Opens a cached array, read-only; None where there is none.

        Args:
            key: of the array.
            shape, dtype: that it must have.
        """

    def make_room(self, keys: Collection[str], size: int) -> None:
        """Removes the least recently used arrays until there is room.

        Args:
            keys: of arrays that stay.
            size: bytes that are needed beside those.

        Raises:
            NoRoom: it can't be made.
        """

    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """A context that gives an array to fill, and caches it if it ends without an error; may raise `NoRoom`."""


class ArrayMemory:
    """A cache in memory, of at most half of the machine's.

    Args:
        limit: most bytes of all arrays.
    """

    place = "memory"

    def __init__(self, limit: int) -> None:
        self.limit = min(limit, machine_memory() // 2)
        self._kept: dict[str, np.ndarray] = {}

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """As `Arrays`."""
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the most recent
        return self._kept.get(key)

    def make_room(self, keys: Collection[str], size: int) -> None:
        """As `Arrays`."""
        others = [key for key in self._kept if key not in keys]
        size += sum(self._kept[key].nbytes for key in keys if key in self._kept)
        if size > self.limit:
            raise NoRoom(f"at most {self.limit / 1e9:.3g} GB in memory")
        while size + sum(self._kept[key].nbytes for key in others) > self.limit:
            del self._kept[others.pop(0)]

    @contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
        """As `Arrays`."""
        values = np.empty(shape, dtype)
        yield values
        values.setflags(write=False)
        self._kept[key] = values


class ArrayFolder:
    """A cache in files, which processes share; an array is there whole or not at all, and is checked when opened.

    Args:
        path: the folder; each array has a folder in it, with its values, and shape, type and checksum as JSON.
        limit: most bytes of all arrays.
        note: called with a line of text about each damaged array, which is removed.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, path: Path, limit: int, note: Callable[[str], None]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        self.path, self.limit, self.note, self.place = path, limit, note, str(path)
        self._opened: dict[str, np.ndarray] = {}

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """As `Arrays`; the checksum is compared once a process."""
        values, about = self.path / key / _VALUES, self.path / key / _ABOUT
        if key not in self._opened and (values.exists() or about.exists()):
            try:
                self._opened[key] = _checked(values, about, shape, dtype)
            except (OSError, ValueError, UserError):
                self.note(f"{self.path / key} is damaged, and is made anew")
                for path in (about, values):
                    path.unlink(missing_ok=True)
        with suppress(OSError):  # the time of its last use
            os.utime(about)
        return self._opened.get(key)

    def make_room(self, keys: Collection[str], size: int) -> None:
        """As `Arrays`; a gigabyte of the disk stays free."""
        folders = [folder for folder in self.path.iterdir() if folder.is_dir()]
        others = sorted((folder for folder in folders if folder.name not in keys), key=_last_use)
        sizes = {folder: _size(folder) for folder in folders}
        total = size + sum(sizes.values())
        free = shutil.disk_usage(self.path).free - size - _SPARE
        removable = sum(sizes[folder] for folder in others)
        if total - removable > self.limit:
            raise NoRoom(f"at most {self.limit / 1e9:.3g} GB in {self.path} ({flag('train.cache_gigabytes')})")
        if free + removable < 0:
            raise NoRoom(f"the disk of {self.path} has no room for it and {_SPARE / 1e9:g} GB to spare")
        while total > self.limit or (free < 0 and others):
            folder = others.pop(0)
            self._opened.pop(folder.name, None)
            shutil.rmtree(folder, ignore_errors=True)
            total, free = total - sizes[folder], free + sizes[folder]

    @contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
        """As `Arrays`; the file is written under another name and then renamed."""
        folder = self.path / key
        folder.mkdir(parents=True, exist_ok=True)
        draft = draft_of(folder / _VALUES)
        try:
            with draft.open("x+b") as file:
                _reserve(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize)
                values = np.memmap(file, dtype, "r+", shape=shape)
            yield values
            values.flush()
            values.setflags(write=False)
            self._keep(draft, folder, values)
            self._opened[key] = values
        finally:
            draft.unlink(missing_ok=True)

    def _keep(self, draft: Path, folder: Path, values: np.ndarray) -> None:
        """Moves a written array to its place; where that fails, it is removed and serves this process alone."""
        try:
            os.replace(draft, folder / _VALUES)
            write_json(folder / _ABOUT, {**_facts(values.shape, values.dtype), "crc32": _checksum(values)})
        except FileNotFoundError:
            pass  # another process made room
        except (OSError, UserError):
            (folder / _VALUES).unlink(missing_ok=True)


def _facts(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    """Shape and type as JSON has them."""
    return {"shape": list(shape), "dtype": np.dtype(dtype).name}


def _checked(values: Path, about: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Opens an array's file; a ValueError where its size, shape, type or checksum is wrong."""
    facts = read_json(about)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not isinstance(facts, dict) or values.stat().st_size != size:
        raise ValueError("no description, or another size")
    array = np.memmap(values, dtype, "r", shape=shape)
    if facts != {**_facts(shape, dtype), "crc32": _checksum(array)}:
        raise ValueError("other values")
    return array


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the bytes."""
    data, crc = memoryview(array.view(np.uint8).reshape(-1)), 0
    for start in range(0, len(data), _CHUNK):
        crc = zlib.crc32(data[start : start + _CHUNK], crc)
    return crc


def _reserve(handle: int, size: int) -> None:
    """Allocates a file's space at once, since writing to a mapped file on a full disk would kill the process."""
    try:
        os.posix_fallocate(handle, 0, size)
    except AttributeError:  # not on this system
        os.truncate(handle, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(str(error.strerror)) from None
        os.truncate(handle, size)


def _last_use(folder: Path) -> float:
    """Time of an array's last use, or of its beginning, in seconds."""
    for path in (folder / _ABOUT, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    """Bytes of an array's files, without those that another process removes meanwhile."""
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total
