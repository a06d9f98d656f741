"""Folders that can be trusted: sealed by a manifest of every file's size and SHA-256, written last.

A folder is made under another name, sealed and moved to its place, so that nobody sees half of one. The manifest's own
text has one form only, so that a changed byte in it is seen as well.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flax_agnews.system.files import move, sync

NAME = "manifest.json"


def seal(draft: Path, folder: Path, sign: Callable[[], None] = lambda: None) -> None:
    """Syncs all that is in `draft`, writes its manifest and moves it to `folder`, in place of what is there.

    Args:
        draft, folder: from where, and to where.
        sign: called between any two files, and before `folder` is touched; what it raises ends this.
    """
    described = {}
    for path in _files(draft):
        sign()
        sync(draft / path)
        described[path] = _described(draft / path)
    for place, _, _ in os.walk(draft, topdown=False):
        sync(Path(place))
    manifest = draft / NAME
    manifest.write_bytes(_text(described))
    sync(manifest)
    sign()
    discard(folder)
    move(draft, folder)


def sealed(folder: Path) -> bool:
    """Whether a folder has a manifest, be it true or not."""
    return (folder / NAME).is_file()


def damage(folder: Path) -> str | None:
    """What isn't as it was sealed, in a few words; None where every byte is."""
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
    """Removes a folder so that no part of it can pass for the whole: first its name goes, then what is in it."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}.gone")
    with suppress(FileNotFoundError):
        os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Gives a damaged folder a name under which nothing looks for it, and returns that."""
    taken = (folder.with_name(f"{folder.name}.damaged{number or ''}") for number in range(10_000))
    aside = next(path for path in taken if not path.exists())
    os.replace(folder, aside)
    return aside


def _files(folder: Path) -> list[str]:
    """Every file's path in the folder, with slashes; what is neither file nor folder counts as a file."""
    paths = sorted(folder.rglob("*"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_symlink() or not path.is_dir()]


def _described(path: Path) -> list[Any]:
    """[size, SHA-256] of a file; nothing that a true manifest has, of a link."""
    if path.is_symlink():
        return []
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _text(files: dict[str, Any]) -> bytes:
    return (json.dumps({"files": files}, indent=0, sort_keys=True) + "\n").encode()
