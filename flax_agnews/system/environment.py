"""The process's environment: its working directory, and cache folders, which may be missing or read-only."""

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
    """Raises a `UserError` where the working directory was removed, since relative paths are useless then."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working directory can't be used ({error.strerror}); cd to a folder that is there"
        ) from None


def settle() -> None:
    """Points other libraries to temporary home and cache folders where the usual ones can't be written.

    Call it before they are imported. With an empty or relative HOME they would write into the root or the working
    directory. Folders that can be read, and those that environment variables name, are left as they are.
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
    """The cache folder for tokens, compiled programs, frozen layers' outputs and adapted bodies.

    It is FLAX_AGNEWS_CACHE, else `flax_agnews` in the user's cache folder.
    """
    return Path(os.environ.get("FLAX_AGNEWS_CACHE") or _cache_base() / "flax_agnews")


def not_kept() -> str | None:
    """A message that nothing can be written to `cache_folder()`, in one line; None where it can."""
    folder = cache_folder()
    if (reason := unwritable(folder)) is None:
        return None
    where = "there is no home folder" if _NOWHERE in folder.parents else f"{folder} can't be written ({reason})"
    return f"{where}: nothing is cached for later runs; FLAX_AGNEWS_CACHE=DIR names another folder"


@cache
def unwritable(folder: Path) -> str | None:
    """Why a folder, created where it is missing, can't be written; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _home() -> Path | None:
    """The home folder: HOME, else that in the system's user database; None where there is neither."""
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
    """Whether a folder is writable, or could be created; changes nothing."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
