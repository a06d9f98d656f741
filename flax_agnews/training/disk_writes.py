"""What a write of arrays by somebody else's threads needs: room on the disk, and a look at whether it still moves."""

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

_LOOK = 0.5  # seconds
_FILES = 16 * 1024  # bytes that an array's files and folders take beside it


@contextmanager
def watched(folder: Path, sign: Sign) -> Iterator[None]:
    """Inside, gives a sign of life whenever what is in a folder has changed in number or size."""
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
    """How many files are in a folder, and their bytes; of those that come and go meanwhile, about."""
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                sizes.append(os.lstat(os.path.join(place, name)).st_size)
    return len(sizes), sum(sizes)


def check_room(folder: Path, sizes: Sequence[int]) -> None:
    """An OSError where arrays of so many bytes don't fit: TensorStore, which finds out later, may hang then."""
    if shutil.disk_usage(folder).free < sum(sizes) + _FILES * len(sizes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if resource:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most != resource.RLIM_INFINITY and max(sizes, default=0) > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
