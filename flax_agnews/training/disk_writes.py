"""Checks for writes by a library's threads: whether there is room on the disk, and whether the write progresses."""

import errno
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flax_agnews.training.saving import GivenUp, Sign

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LOOK = 0.5  # seconds between two looks at a folder
_FILES = 16 * 1024  # bytes of metadata per array


@contextmanager
def watched(folder: Path, sign: Sign) -> Iterator[None]:
    """Calls `sign` whenever the number or size of a folder's files has changed, while the context is open."""
    over = threading.Event()

    def look() -> None:
        before = None
        with suppress(GivenUp):
            while not over.wait(_LOOK):
                if (now := _extent(folder)) != before:
                    before = now
                    sign()

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _extent(folder: Path) -> tuple[int, int]:
    """(number of files in a folder, their size in bytes); files that change meanwhile may be missing."""
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                sizes.append(os.lstat(os.path.join(place, name)).st_size)
    return len(sizes), sum(sizes)


def check_room(folder: Path, sizes: Sequence[int]) -> None:
    """Raises an OSError if arrays of these sizes, in bytes, don't fit on the disk, since TensorStore may hang then."""
    if shutil.disk_usage(folder).free < sum(sizes) + _FILES * len(sizes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if resource:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most != resource.RLIM_INFINITY and max(sizes, default=0) > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
