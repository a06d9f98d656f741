"""Finds the files of a data set: formats by suffix, files by glob pattern, and the splits of a folder."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from flax_agnews.data.streams import COMPRESSIONS
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.system.files import expanded

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_COMPRESSIBLE = (".csv", ".tsv", ".json", ".jsonl")  # Parquet is compressed inside
_INFOS = "dataset_infos.json"  # the hub's metadata, no data
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(-[0-9a-f]{16})?")
"""File name of a shard on the hub, `train-00000-of-00002`; older ones end in a hash."""


def format_of(name: str | Path) -> tuple[str, str]:
    """Format and compression of a file by its suffixes: `a.csv.gz` -> `.csv`, `.gz`; empty if there is none."""
    path = Path(name)
    suffix, compression = path.suffix.lower(), ""
    if suffix in COMPRESSIONS:
        suffix, compression = Path(path.stem).suffix.lower(), suffix
    known = suffix in (_COMPRESSIBLE if compression else FORMATS)
    return (suffix, compression) if known else ("", "")


def allowed() -> str:
    """All suffixes that can be read, for errors."""
    return f"{', '.join(FORMATS)}, or of text also {', '.join(COMPRESSIONS)} after it"


def is_pattern(source: str) -> bool:
    """Whether `source` is a file pattern: it contains *, ? or [, and no file has that name."""
    return glob.has_magic(source) and not expanded(source).exists()


def matching(source: str) -> list[Path]:
    """Files that match a pattern, sorted by name. UserError if there are none."""
    paths = sorted(map(Path, glob.glob(str(expanded(source)), recursive=True)))
    if not paths:
        raise UserError(f"{source}: matches no file")
    return paths


def configured(folder: Path, config: str | None) -> Path:
    """The folder of the chosen configuration in a data set's folder; the folder itself if `config` is None."""
    if config is None:
        return folder
    found = [place / config for place in (folder, folder / "data") if (place / config).is_dir()]
    if not found:
        raise UserError(f"{flag('data.config')} {config}: {folder} has no such folder, but {listed(_folders(folder))}")
    return found[0]


def splits_of(folder: Path) -> dict[str, list[Path]]:
    """Files of each split: `train.csv`, `train-00000-of-00002.parquet` or `train/*`, in the folder or in its `data`."""
    splits: dict[str, list[Path]] = {}
    for path in (*_visible(folder), *_visible(folder / "data")):
        if format_of(path)[0] and path.name != _INFOS:
            splits.setdefault(_split(path), []).append(path)
        elif path.is_dir() and path != folder / "data":
            splits.setdefault(path.name, []).extend(p for p in _visible(path) if format_of(p)[0])
    return {name: paths for name, paths in splits.items() if paths}


def complete(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """The files of one split, sorted. UserError if several files could be the split, or shards are missing."""
    if len({path.parent for path in paths}) == 1 and len({_split(path) for path in paths}) > 1:
        return sorted(paths)  # the split is a folder with files of any names
    shards = [(_SHARD.fullmatch(_stem(path)), path) for path in paths]
    if len(paths) == 1 and shards[0][0] is None:
        return list(paths)
    counts = {match["count"] if match else None for match, _ in shards}
    numbers = [int(match["number"]) for match, _ in shards if match]
    if len(counts) > 1 or None in counts or len(set(numbers)) < len(numbers):
        names = listed(str(path.relative_to(folder)) for path in paths)
        raise UserError(f"{folder}: has {names}; keep one of them")
    missing = set(range(int(counts.pop() or 0))) - set(numbers)
    if missing:
        which = listed(f"{number:05}" for number in sorted(missing))
        raise UserError(f"{folder}: of {paths[0].name} and its other parts, {which} are missing")
    return [path for _, path in sorted(zip(numbers, paths, strict=True))]


def configurations(folder: Path, train: str) -> list[str]:
    """Configurations of a data set: folders in `folder` that have a split called `train`."""
    return [name for name in _folders(folder) if train in splits_of(configured(folder, name))]


def _folders(folder: Path) -> list[str]:
    places = (folder, folder / "data")
    return sorted({path.name for place in places for path in _visible(place) if path.is_dir()} - {"data"})


def _visible(folder: Path) -> list[Path]:
    """Entries of a folder that aren't hidden, sorted; none if it isn't a folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder} can't be read: {error.strerror or error}") from None


def _split(path: Path) -> str:
    stem = _stem(path)
    match = _SHARD.fullmatch(stem)
    return match["split"] if match else stem


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len("".join(format_of(path)))]
