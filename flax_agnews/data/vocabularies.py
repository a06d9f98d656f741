"""Trains the vocabulary of a byte-level BPE tokenizer, and caches it under a hash of the texts."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flax_agnews.data.tokens import digest_of, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.system.caches import folder_of, mark_used, write_cached
from flax_agnews.system.files import read_json, write_atomic

_FILES = ("vocab.json", "merges.txt")


def write_vocabulary(texts: Sequence[str], size: int, folder: Path) -> None:
    """Trains a vocabulary on texts, or takes it from the cache, and writes its files for `load_tokenizer`.

    Args:
        texts: the texts to train on.
        size: largest number of entries.
        folder: gets `vocab.json` and `merges.txt`.
    """
    path = folder_of("vocabularies") / f"{digest_of(version('tokenizers'), str(size), *texts)}.json"
    files = _read(path)
    if files is None:
        files = _trained(texts, size)
        described = {"sha256": _checksum(files), "files": files}
        write_cached(path, json.dumps(described).encode())
    for name, text in files.items():
        write_atomic(folder / name, text.encode())


def _trained(texts: Sequence[str], size: int) -> dict[str, str]:
    """File name -> content of a vocabulary that is trained now."""
    with TemporaryDirectory() as made:
        train_tokenizer(texts, size).save(Path(made))
        return {name: (Path(made) / name).read_bytes().decode() for name in _FILES}


def _read(path: Path) -> dict[str, str] | None:
    """File name -> content of a cached vocabulary; None if it is missing or damaged."""
    try:
        described: Any = read_json(path)
        files: dict[str, str] = {name: described["files"][name] for name in _FILES}  # no other names, such as ../x
        if described["sha256"] != _checksum(files):
            return None
    except (UserError, ValueError, TypeError, KeyError, AttributeError):
        return None
    mark_used(path)
    return files


def _checksum(files: dict[str, str]) -> str:
    return digest_of(*(files[name] for name in _FILES))
