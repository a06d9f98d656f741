"""Files that readers see whole or not at all, on the disk before anything counts on them."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError


def write_atomic(path: Path, content: bytes) -> Path:
    """Writes `content` beside `path`, then moves it there: readers see the old file or the new one, whole.

    Content and name are on the disk when this returns, so that a power cut can't take them back.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        move(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def move(draft: Path, path: Path) -> None:
    """Gives a finished file, or a folder whose content is synced, its name; both are on the disk afterwards."""
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Brings a file's content, or a folder's names, to the disk; silently not where a folder can't be opened."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # folders on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON, whole; numbers that aren't finite become null."""
    return write_atomic(path, (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any | None:
    """A JSON file's content; None where there is no such file. UserError where it can't be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it to have it made anew") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
