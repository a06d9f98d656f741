"""The caches that all experiments of a machine share: their kinds and folders, the size limit of all together, removal.

An entry is a file, or a folder of files, in the folder of its kind. It is written under another name and then renamed,
so that a reader finds it whole or not at all; a reader that doesn't find it computes its content anew.
"""

import math
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flax_agnews.errors import UserError
from flax_agnews.system.environment import cache_folder
from flax_agnews.system.files import draft_of, write_atomic

KINDS = {
    "tokens": "token ids of texts",
    "vocabularies": "tokenizers trained on texts",
    "compiled": "compiled programs",
    "activations": "outputs of frozen layers",
    "references": "cheap classifiers that strategies are compared with",
    "adapted": "bodies adapted by language modelling",
}
"""Name of a kind of cache, and of its folder -> what it holds."""

LIMIT = "FLAX_AGNEWS_CACHE_GIGABYTES"
"""Environment variable of the size limit of all caches together, in 1e9 bytes.

It is no setting of an experiment, since experiments with different limits would remove each other's entries.
"""

_USUAL_LIMIT = "20"
_DRAFT = re.compile(r"\..+\.(\d+)(-[0-9a-f]{8}\.tmp|\.gone)")  # a file or folder on its way, with its process number
_RECENT = 10  # seconds in which the folders' sizes needn't be added up again for small writes
_room: dict[tuple[Path, float], tuple[float, float]] = {}  # (folder, limit) -> when it was measured, bytes left since
_OLD = 600  # seconds; a process on another machine that shares the folder may still write a younger temporary file


@dataclass(frozen=True)
class Entry:
    """What is cached under one key.

    Attributes:
        path: the file, or the folder of its files.
        files: number of files.
        size: size of all files, in bytes.
        used: time of the last use, or of the creation, in seconds since the epoch.
    """

    path: Path
    files: int
    size: int
    used: float


def folder_of(kind: str) -> Path:
    """The folder of one of `KINDS`."""
    assert kind in KINDS, kind
    return cache_folder() / kind


def limit() -> float:
    """Largest size of all caches together, in bytes; a `UserError` if the environment variable is no such number."""
    given = os.environ.get(LIMIT) or _USUAL_LIMIT
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise UserError(f"{LIMIT}={given}: must be a number of gigabytes, 0 or more")
    return gigabytes * 1e9


def entries(folder: Path) -> list[Entry]:
    """The entries in a folder, without temporary files; those that are removed meanwhile are left out."""
    found = [_measured(child) for child in _children(folder) if not _DRAFT.fullmatch(child.name)]
    return [entry for entry in found if entry]


def mark_used(path: Path) -> None:
    """Records that an entry is used now; does nothing if it can't be written."""
    with suppress(OSError):
        os.utime(path)


def hold(handle: int) -> None:
    """Keeps an open file's entry from removal as long as the file, or a mapping of it into memory, is open.

    Does nothing where the file system has no locks.
    """
    with suppress(OSError, ImportError):
        import fcntl  # not available on Windows

        fcntl.flock(handle, fcntl.LOCK_SH)


def make_room(size: int, kept: Collection[Path] = (), at_least: float = 0) -> bool:
    """Removes the entries used least recently until so many bytes more fit into the limit of all caches together.

    Entries in use stay. Temporary files that killed processes have left are removed too.

    Args:
        size: bytes that will be written.
        kept: paths of entries that must stay.
        at_least: the limit in bytes, where it is above the usual one.

    Returns:
        Whether there is room; if not, no entry was removed.
    """
    most = max(limit(), at_least)
    measured, left = _room.get(place := (cache_folder(), most), (-math.inf, 0.0))
    if time.monotonic() - measured < _RECENT and size < left / 10:  # other processes write too
        _room[place] = measured, left - size
        return True
    for kind in KINDS:
        sweep(folder_of(kind))
    everything = [entry for kind in KINDS for entry in entries(folder_of(kind))]
    left = most - size - sum(entry.size for entry in everything)
    _room[place] = time.monotonic(), left
    return remove_oldest(everything, -left, kept)


def remove_oldest(among: Collection[Entry], excess: float, kept: Collection[Path] = ()) -> bool:
    """Removes the entries used least recently until `excess` bytes are free; if they can't be, removes nothing.

    Args:
        among: the entries.
        excess: bytes to free; 0 or less removes nothing.
        kept: paths of entries that must stay.

    Returns:
        Whether so much could be removed.
    """
    if excess <= 0:
        return True
    removable = [entry for entry in among if entry.path not in kept and not _in_use(entry.path)]
    if sum(entry.size for entry in removable) < excess:
        return False
    for entry in sorted(removable, key=lambda entry: entry.used):
        if excess > 0 and remove(entry):
            excess -= entry.size
    return True


def remove(entry: Entry) -> bool:
    """Removes an entry at once for all readers, unless it is in use; returns whether it is gone."""
    if _in_use(entry.path):
        return False
    draft = draft_of(entry.path)
    try:
        os.replace(entry.path, draft)
    except FileNotFoundError:  # another process has removed it
        return True
    except OSError:
        return False
    _delete(draft)
    return True


def sweep(folder: Path) -> None:
    """Removes temporary files in a folder of entries, and in its entries, whose processes were killed."""
    for child in _children(folder):
        for inner in (child, *(_children(Path(child.path)) if child.is_dir() else ())):
            name, path = _DRAFT.fullmatch(inner.name), Path(inner.path)
            if name and not _runs(int(name[1])) and _age(path) > _OLD and not _in_use(path):
                _delete(path)


def write_cached(path: Path, content: bytes) -> None:
    """Writes an entry of one file; does nothing if it has no room, or can't be written."""
    with suppress(UserError):
        if make_room(len(content)):
            write_atomic(path, content)


def _children(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda child: child.name)
    except OSError:
        return []


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files below a folder."""
    if path.is_dir():
        yield from (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    else:
        yield path


def _measured(child: "os.DirEntry[str]") -> Entry | None:
    """The entry at a path; None if it is gone."""
    try:
        about, path = child.stat(), Path(child.path)
        sizes = [file.stat().st_size for file in _files(path)] if child.is_dir() else [about.st_size]
    except FileNotFoundError:
        return None
    return Entry(path, len(sizes), sum(sizes), about.st_mtime)


def _in_use(path: Path) -> bool:
    """Whether a process holds one of an entry's files (`hold`)."""
    with suppress(ImportError):
        import fcntl  # not available on Windows

        for file in _files(path):
            with suppress(FileNotFoundError, PermissionError), file.open("rb") as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
                except OSError:  # a file system without locks
                    return False
    return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _age(path: Path) -> float:
    """Seconds since a file was written last; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _runs(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process
        return True
    return True
