"""What a process finds around it: its working directory, and folders for caches, which may be missing or read-only."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from flax_agnews.errors import UserError

_NOWHERE = Path(os.devnull) / "no home folder"  # nothing can be written below a file

# What tells other libraries where to keep things -> the folder that they have below the user's cache folder otherwise.
_THEIRS = {
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "WANDB_CACHE_DIR": "wandb",
    "WANDB_DATA_DIR": "wandb",
}


def check_directory() -> None:
    """Raises a `UserError` where the working directory was removed: no relative path means anything then."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working directory can't be used ({error.strerror}); cd to a folder that is there"
        ) from None


def settle() -> None:
    """Gives other libraries a home and cache folders where there are none that can be written: temporary ones.

    An empty or relative HOME would have them write into the root or the working directory. To be called before they are
    imported. What is there and can be read, and what the environment names, stays as it is.
    """
    home = _home()
    if home and str(home) != os.environ.get("HOME"):
        os.environ["HOME"] = str(home)
    base = _cache_base()
    read = {name for name in ("HF_HOME",) if (base / _THEIRS[name]).is_dir()}  # what was downloaded before
    missing = [name for name in _THEIRS if name not in os.environ and name not in read]
    if home and (not missing or _may_write(base)):
        return
    try:
        temporary = tempfile.mkdtemp(prefix="flax_agnews-caches-")
    except OSError:  # then they say for themselves what they can't write
        return
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    os.environ.update({name: str(Path(temporary) / _THEIRS[name]) for name in missing})
    if not home:
        os.environ["HOME"] = temporary


def cache_folder() -> Path:
    """Where tokens, compiled programs, frozen layers' output and adapted bodies are kept.

    FLAX_AGNEWS_CACHE, or flax_agnews in the user's cache folder.
    """
    return Path(os.environ.get("FLAX_AGNEWS_CACHE") or _cache_base() / "flax_agnews")


def not_kept() -> str | None:
    """What to tell where nothing can be kept in `cache_folder()`, in a line; None where it can."""
    folder = cache_folder()
    if (reason := unwritable(folder)) is None:
        return None
    where = "there is no home folder" if _NOWHERE in folder.parents else f"{folder} can't be written ({reason})"
    return f"{where}: nothing is cached for later runs; FLAX_AGNEWS_CACHE=DIR names another folder"


@cache
def unwritable(folder: Path) -> str | None:
    """Why nothing can be written in a folder, which is made where it is missing; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _home() -> Path | None:
    """HOME, or where that says nothing the user's entry in the system's list; None where there is neither."""
    try:
        given = os.environ.get("HOME", "")
        home = Path(given) if os.path.isabs(given) else _entry()
    except (KeyError, ImportError):
        return None
    return home


def _entry() -> Path:
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _cache_base() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    return home / ".cache" if (home := _home()) else _NOWHERE


def _may_write(folder: Path) -> bool:
    """Whether a folder is writable, or could be made; touches nothing."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
