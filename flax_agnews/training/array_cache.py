"""A size-limited cache of large arrays: in memory-mapped files with checksums, or in memory."""

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
from flax_agnews.system import caches
from flax_agnews.system.files import draft_of, read_json, write_json
from flax_agnews.system.machine import machine_memory

_VALUES, _ABOUT = "values", "about.json"
_SPARE = 10**9  # bytes to leave free on the disk
_CHUNK = 1 << 24  # bytes per call in computing a checksum


class NoRoom(OneLineError):
    """Raised when arrays don't fit into a cache; the message says why."""


class Arrays(Protocol):
    """A cache of arrays.

    Attributes:
        place: where the arrays are, for messages: a folder's path, or `memory`.
    """

    place: str

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """Opens a cached array, read-only; None if it isn't cached.

        Args:
            key: key of the array.
            shape, dtype: its shape and type.
        """

    def make_room(self, keys: Collection[str], size: int) -> None:
        """Removes the least recently used arrays until there is room.

        Args:
            keys: keys of arrays that must stay.
            size: bytes needed in addition to these arrays.

        Raises:
            NoRoom: there isn't enough room even then.
        """

    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """A context manager that gives an array to fill, and caches it if no error is raised; may raise `NoRoom`."""


class ArrayMemory:
    """A cache in memory, limited also to half of the machine's memory.

    Args:
        limit: largest size of all arrays together, in bytes.
    """

    place = "memory"

    def __init__(self, limit: int) -> None:
        self.limit = min(limit, machine_memory() // 2)
        self._kept: dict[str, np.ndarray] = {}

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """As `Arrays`."""
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # moved to the end: most recently used
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
    """A cache in files, shared between processes; arrays are written atomically and checked when opened.

    An array that a process has open is not removed to make room.

    Args:
        path: folder of the cache, with a folder for each array: its values, and a JSON of shape, type and checksum.
        limit: largest size of all arrays together, in bytes.
        note: called with a message about each damaged array, which is removed.

    Raises:
        OSError: the folder can't be written.
    """

    def __init__(self, path: Path, limit: int, note: Callable[[str], None]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        self.path, self.limit, self.note, self.place = path, limit, note, str(path)
        self._opened: dict[str, np.ndarray] = {}

    def open(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
        """As `Arrays`; each array's checksum is verified once per process."""
        values, about = self.path / key / _VALUES, self.path / key / _ABOUT
        if key not in self._opened and (values.exists() or about.exists()):
            try:
                self._opened[key] = _checked(values, about, shape, dtype)
            except (OSError, ValueError, UserError):
                self.note(f"{self.path / key} is damaged, and is made anew")
                for path in (about, values):
                    path.unlink(missing_ok=True)
        caches.mark_used(values.parent)
        return self._opened.get(key)

    def make_room(self, keys: Collection[str], size: int) -> None:
        """As `Arrays`; leaves a gigabyte of the disk free, and keeps to the limit of all caches together."""
        arrays, kept = caches.entries(self.path), [self.path / key for key in keys]
        over_limit = sum(array.size for array in arrays) + size - self.limit
        over_disk = size + _SPARE - shutil.disk_usage(self.path).free
        if max(over_limit, over_disk) > 0:  # what this process reads no more isn't in use
            self._opened = {key: array for key, array in self._opened.items() if key in keys}
        if not caches.remove_oldest(arrays, max(over_limit, over_disk), kept):
            if over_limit >= over_disk:
                raise NoRoom(f"at most {self.limit / 1e9:.3g} GB in {self.path} ({flag('train.cache_gigabytes')})")
            raise NoRoom(f"the disk of {self.path} has no room for it and {_SPARE / 1e9:g} GB to spare")
        if not caches.make_room(size, kept, at_least=self.limit):
            raise NoRoom(f"other entries of the cache are in use, or {caches.LIMIT} is too low")

    @contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
        """As `Arrays`; the file is written under another name and then renamed."""
        folder = self.path / key
        draft = draft_of(folder / _VALUES)
        try:
            values = _mapped(draft, shape, dtype)
            yield values
            _flush(values)
            values.setflags(write=False)
            self._keep(draft, folder, values)
            self._opened[key] = values
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _keep(self, draft: Path, folder: Path, values: np.ndarray) -> None:
        """Moves a written array to its place; if that fails, removes it, and only this process can use it."""
        try:
            os.replace(draft, folder / _VALUES)
            write_json(folder / _ABOUT, {**_facts(values.shape, values.dtype), "crc32": _checksum(values)})
        except FileNotFoundError:
            pass  # another process has removed the folder to make room
        except (OSError, UserError):
            (folder / _VALUES).unlink(missing_ok=True)


def _facts(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    """Shape and type of an array, for the JSON file."""
    return {"shape": list(shape), "dtype": np.dtype(dtype).name}


def _checked(values: Path, about: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Opens an array's file; raises a ValueError if its size, shape, type or checksum is wrong."""
    facts = read_json(about)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not isinstance(facts, dict) or values.stat().st_size != size:
        raise ValueError("no description, or another size")
    with values.open("rb") as file:
        caches.hold(file.fileno())  # the mapping has the file open further
        array = np.memmap(file, dtype, "r", shape=shape)
    if facts != {**_facts(shape, dtype), "crc32": _checksum(array)}:
        raise ValueError("other values")
    return array


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    data, crc = memoryview(array.view(np.uint8).reshape(-1)), 0
    for start in range(0, len(data), _CHUNK):
        crc = zlib.crc32(data[start : start + _CHUNK], crc)
    return crc


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """Makes a file for an array, and maps it into memory; `NoRoom` if it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x+b") as file:
            caches.hold(file.fileno())
            _reserve(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise NoRoom(f"{path.parent} can't be written ({error.strerror or error})") from None


def _flush(values: np.memmap) -> None:
    """Writes a mapped array to the disk; `NoRoom` if that fails, since its pages may then be lost in memory too."""
    try:
        values.flush()
    except OSError as error:
        raise NoRoom(f"cached arrays can't be written ({error.strerror or error})") from None


def _reserve(handle: int, size: int) -> None:
    """Allocates a file's disk space now: writing to a mapped file on a full disk would kill the process."""
    try:
        os.posix_fallocate(handle, 0, size)
    except AttributeError:  # not available on this system
        os.truncate(handle, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(str(error.strerror)) from None
        os.truncate(handle, size)
