"""Folders with a manifest of every file's size and SHA-256, so that damage is detected when they are read.

A folder is written under a temporary name, gets its manifest last, and is then renamed, so that it is never seen
incomplete. The manifest's text has one canonical form, so that a changed byte in it is detected as well.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.system.files import draft_of, move, sync

NAME = "manifest.json"


def seal(draft: Path, folder: Path, sign: Callable[[], None] = lambda: None) -> None:
    """Syncs a folder to the disk, writes its manifest, and renames it to its final path, replacing a folder there.

    Args:
        draft: the folder under its temporary name.
        folder: its final path.
        sign: called between files, and before `folder` is replaced; an exception from it cancels the rest.
    """
    described = {}
    for path in _files(draft):
        sign()
        sync(draft / path)
        described[path] = _described(draft / path)
    _sync_folders(draft)
    manifest = draft / NAME
    manifest.write_bytes(_text(described))
    sync(manifest)
    sign()
    discard(folder)
    move(draft, folder)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder to write, which is synced and renamed to `folder`, or removed if the block raises.

    Args:
        folder: the final path; a folder there is replaced.

    Raises:
        UserError: something can't be written.
    """
    draft = draft_of(folder)
    try:
        draft.mkdir(parents=True)
        yield draft
        for path in _files(draft):
            sync(draft / path)
        _sync_folders(draft)
        discard(folder)
        move(draft, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sealed(folder: Path) -> bool:
    """Whether a folder has a manifest; `damage` says whether it is correct."""
    return (folder / NAME).is_file()


def damage(folder: Path) -> str | None:
    """Describes the first difference between a folder and its manifest; None where there is none."""
    try:
        content = (folder / NAME).read_bytes()
        listed = json.loads(content)["files"]
        if content != _text(listed):
            return f"{NAME} was changed"
        found = set(_files(folder)) - {NAME}
        if different := sorted(found.symmetric_difference(listed)):
            return f"{different[0]} {'was added' if different[0] in found else 'is missing'}"
        changed = (path for path in sorted(found) if _described(folder / path) != listed[path])
        return next((f"{path} was changed" for path in changed), None)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{NAME} was changed"


def discard(folder: Path) -> None:
    """Removes a folder; renames it first, so that a crash can't leave an incomplete folder under its name."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}.gone")
    with suppress(FileNotFoundError):
        os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Renames a damaged folder to `FOLDER.damaged`, with a number behind where that exists; returns the new path."""
    taken = (folder.with_name(f"{folder.name}.damaged{number or ''}") for number in range(10_000))
    aside = next(path for path in taken if not path.exists())
    os.replace(folder, aside)
    return aside


def _sync_folders(folder: Path) -> None:
    """Syncs a folder and all folders in it to the disk, the innermost first."""
    for place, _, _ in os.walk(folder, topdown=False):
        sync(Path(place))


def _files(folder: Path) -> list[str]:
    """Relative paths of all files in a folder, with `/` as separator; links and sockets count as files."""
    paths = sorted(folder.rglob("*"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_symlink() or not path.is_dir()]


def _described(path: Path) -> list[Any]:
    """[size, SHA-256] of a file, as in the manifest; [] for a link, which never matches."""
    if path.is_symlink():
        return []
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _text(files: dict[str, Any]) -> bytes:
    return (json.dumps({"files": files}, indent=0, sort_keys=True) + "\n").encode()
