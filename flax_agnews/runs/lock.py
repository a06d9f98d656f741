"""A lock that lets only one process at a time write into an output folder."""

import json
import os
import socket
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from flax_agnews.errors import UserError, flag
from flax_agnews.system.files import write_json


class Lock:
    """A lock on a folder for this process. The operating system releases it when the process ends, even by a crash.

    Args:
        folder: the folder, which has to exist when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._owner = folder, folder / ".owner.json"
        self._lock: BaseFileLock | None = None

    def take(self) -> None:
        """Takes the lock, unless this process has it; a `UserError` that names the process that has it."""
        if self._lock:
            return
        lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by {self._holder()}. Wait for it, or stop it, or choose another "
                f"{flag('output')}"
            ) from None
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from None
        self._lock = lock
        write_json(self._owner, {"pid": os.getpid(), "host": socket.gethostname()})

    def release(self) -> None:
        """Releases the output folder's lock."""
        if self._lock:
            self._owner.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text("utf-8"))
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
