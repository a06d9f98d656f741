"""Checks and sets the process's working directory, home folder and cache folders, which may be unusable."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from flax_agnews.errors import UserError

_NOWHERE = Path(os.devnull) / "no home folder"  # nothing can be written below a file

# environment variable of another library's folder -> its default folder below the user's cache folder
_THEIRS = {
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "WANDB_CACHE_DIR": "wandb",
    "WANDB_DATA_DIR": "wandb",
}


def check_directory() -> None:
    """Raises a `UserError` if the working directory was removed, since relative paths can't be resolved then."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the working directory can't be used ({error.strerror}); cd to a folder that is there"
        ) from None


def settle() -> None:
    """Makes other libraries use temporary home and cache folders if the usual ones can't be written.

    Call it before these libraries are imported. With an empty or relative HOME they would write into `/` or the working
    directory. Existing downloads (HF_HOME) and folders named by environment variables are not changed.
    """
    home = _home()
    if home and str(home) != os.environ.get("HOME"):
        os.environ["HOME"] = str(home)
    base = _cache_base()
    read = {name for name in ("HF_HOME",) if (base / _THEIRS[name]).is_dir()}  # with downloads of earlier processes
    missing = [name for name in _THEIRS if name not in os.environ and name not in read]
    if home and (not missing or _may_write(base)):
        return
    try:
        temporary = tempfile.mkdtemp(prefix="flax_agnews-caches-")
    except OSError:  # the libraries report this themselves
        return
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    os.environ.update({name: str(Path(temporary) / _THEIRS[name]) for name in missing})
    if not home:
        os.environ["HOME"] = temporary


def cache_folder() -> Path:
    """The folder of all kinds of cache (`system.caches`).

    The environment variable FLAX_AGNEWS_CACHE names it; by default it is `flax_agnews` in the user's cache folder.
    """
    return Path(os.environ.get("FLAX_AGNEWS_CACHE") or _cache_base() / "flax_agnews")


def not_kept() -> str | None:
    """A one-line message that `cache_folder()` can't be written; None if it can."""
    folder = cache_folder()
    if (reason := unwritable(folder)) is None:
        return None
    where = "there is no home folder" if _NOWHERE in folder.parents else f"{folder} can't be written ({reason})"
    return f"{where}: nothing is cached for later runs; FLAX_AGNEWS_CACHE=DIR names another folder"


@cache
def unwritable(folder: Path) -> str | None:
    """The reason why a folder can't be written, or created if it is missing; None if it can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _home() -> Path | None:
    """The home folder: HOME, or that in the system's user database; None if there is neither."""
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
