"""Reads and writes JSON, YAML and other files safely.

Files are written atomically and synced to the disk. Reading files of unknown origin is limited in size and can't run
code.
"""

import codecs
import errno
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from flax_agnews.errors import UserError, first_line

T = TypeVar("T")

_MOST_YAML = 100_000  # bytes; the longest configuration has a few thousand
_MOST_JSON = 10_000_000  # of a model's config.json or index; the longest have a few hundred thousand


def expanded(name: str) -> Path:
    """A path with `~` expanded, unless the user that it names doesn't exist."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~ of a user who does not exist
        return Path(name)


def absolute(name: str) -> str:
    """An absolute path without `~`, `.` and `..`, which is valid from any working directory."""
    try:
        path = os.path.abspath(expanded(name))
        real = os.path.realpath(expanded(name))
        return path if os.path.realpath(path) == real else real  # `..` behind a symbolic link goes elsewhere
    except ValueError:  # a null character
        return name


def write_atomic(path: Path, content: bytes) -> Path:
    """Writes a file atomically: readers see the old content or the new one. Returns the path.

    Content and name are synced to the disk, so that a power cut can't lose them afterwards.
    """
    with drafted(path) as draft:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
    return path


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A context for writing `path` atomically: gives a temporary path whose file replaces `path` at the end.

    The file is synced to the disk. After an error, `path` is unchanged and the temporary file is removed.

    Raises:
        UserError: an OSError occurred inside, so that the file can't be written; with the reason.
    """
    draft = draft_of(path)
    try:
        yield draft
        move(draft, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def check_writable(path: Path, what: str = "") -> None:
    """Raises a `UserError` if a file or folder can't be created at `path`; called before long computations.

    Args:
        path: of the file or folder; its missing parents would be created.
        what: name of the setting, such as `--out`, for the error.
    """
    there = next((place for place in (path.absolute(), *path.absolute().parents) if place.exists()), path)
    folder = there.parent if there == path.absolute() else there
    try:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{f'{what} ' if what else ''}{path}: cannot be written ({reason})") from None


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, links included."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def draft_of(path: Path) -> Path:
    """A unique temporary path in the folder of `path`, for a file or folder that will be renamed to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def move(draft: Path, path: Path) -> None:
    """Renames a finished file, or a folder with synced content, to `path`; both are synced to the disk."""
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Syncs a file's content, or a folder's entries, to the disk; does nothing where a folder can't be opened."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # folders on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON atomically; numbers that aren't finite become null."""
    return write_atomic(path, (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any | None:
    """Reads a JSON file; None if there is no such file, UserError if it can't be read."""
    try:
        return parse_json(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it to have it made anew") from None


def parse_json(text: str, **how: Any) -> Any:
    """Parses JSON like `json.loads`, but raises ValueError for content nested too deep."""
    try:
        return json.loads(text, **how)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_model_json(path: Path) -> Any:
    """Reads a model's JSON file, of limited size. OSError or ValueError if it can't be read."""
    return parse_json(_read_text(path, _MOST_JSON))


def read_yaml(path: Path) -> Any:
    """Reads a YAML file. OSError or ValueError if it can't be read."""
    return parse_yaml(yaml_text(path))


def yaml_text(path: Path) -> str:
    """Reads a YAML file's text as UTF-8. OSError or ValueError if it can't be read."""
    return _read_text(path, _MOST_YAML)


class Aliased(ValueError):
    """Raised for YAML with aliases, which aren't allowed: a few lines of them can expand to gigabytes."""


def parse_yaml(text: str) -> Any:
    """Parses YAML into plain values. ValueError, in one line, for invalid YAML, aliases, and object tags."""
    try:
        return yaml.load(text, _PlainLoader)
    except Aliased:
        raise
    except Exception as error:  # also those of int() and date() for invalid scalars
        raise ValueError(" ".join(str(error).split()) or first_line(error)) from None


def write_yaml(path: Path, value: Any) -> Path:
    """Writes plain values as YAML, atomically."""
    return write_atomic(path, dump_yaml(value).encode())


def dump_yaml(value: Any, **how: Any) -> str:
    """Plain values as YAML text that YAML 1.1 and 1.2 read alike; `how` are arguments of `yaml.dump`."""
    return yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, **how)


class _PlainDumper(yaml.SafeDumper):
    """PyYAML's safe dumper that also quotes strings which are numbers in YAML 1.2, such as 1e3."""


_PlainDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\.?[0-9][0-9_.]*[eE].*"), list("-+.0123456789")
)


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and with YAML 1.2's scalars.

    `off`, `on`, `no` and `yes` are strings (`settings_from` converts them for boolean settings), dates are strings, and
    1e-4 is a number.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith((":timestamp", ":float")) and not (tag.endswith(":bool") and first in "yYnNoO")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if parent is not None and self.check_event(yaml.AliasEvent):
            raise Aliased(f"aliases (*{self.peek_event().anchor}) aren't read; write the value out")
        return super().compose_node(parent, index)


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _read_text(path: Path, most: int) -> str:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"longer than {most:,} bytes")
    try:
        return data.decode("utf-8-sig")  # editors of Windows begin with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: {not_utf8(data, error.start)}") from None


def not_utf8(data: bytes, place: int) -> str:
    """An error message for data that aren't UTF-8 at offset `place`, with a command that converts the file."""
    encoding = "UTF-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "WINDOWS-1252"
    convert = f"convert it, such as by iconv -f {encoding} -t UTF-8 OLD > NEW"
    return f"byte 0x{data[place]:02x} is not UTF-8; {convert}"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def settings_from(kind: type[T], values: Any) -> T:
    """Makes a dataclass of settings from a mapping of values that were read from YAML.

    Raises:
        TypeError: an unknown field, or a value of another type; the message is one line.
    """
    hints = get_type_hints(kind)
    values = {name: _worded(value) if hints.get(name) is bool else value for name, value in dict(values).items()}
    made = kind(**values)
    for name, value in values.items():
        if not fits(value, hints[name]):
            raise TypeError(f"{name} can't be {value!r}")
    return made


def _worded(value: Any) -> Any:
    """True or False for YAML 1.1's words, such as `yes` and `off`; other values unchanged."""
    return yaml.SafeLoader.bool_values.get(value.lower(), value) if isinstance(value, str) else value


def fits(value: Any, hint: Any) -> bool:
    """Whether a value's type fits a type hint; elements of lists and mappings are not checked."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin:
        return isinstance(value, dict if origin is dict else list | tuple)
    return hint is Any or type(value) in ((int, float) if hint is float else (hint,))
