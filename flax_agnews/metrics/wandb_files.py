"""Reads and repairs the local files of a W&B run, so that a resumed run continues after its last row."""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_HEAD, _BLOCK, _CHUNK_HEAD = 7, 32768, 7  # bytes
_WHOLE, _LAST = 1, 4  # kinds of chunks that end a record
_SETTLES = 1.0  # seconds in which W&B's own process may still write a run that has just finished


def last_row(folder: Path, run_id: str) -> tuple[int, set[str]]:
    """Step (-1 where there is none) and metric names of the last row in a run's files.

    Every start of a run writes a new file.
    """
    last: tuple[int, set[str]] = -1, set()
    for path in _files(folder, run_id):
        for row in _rows(path):
            step = int(row.get("_step", -1))
            if step > last[0]:
                last = step, set(row)
            elif step == last[0]:
                last[1].update(row)
    return last


def mend(folder: Path, run_id: str) -> None:
    """Truncates a run's files to their complete records, since `wandb sync` stops at an incomplete record.

    A file without a `run` record, which would stop the upload of all others, is removed.
    """
    for path in _files(folder, run_id):
        with suppress(OSError):
            kinds, end = _kinds(path)
            while "exit" not in kinds and time.time() - path.stat().st_mtime < _SETTLES:
                time.sleep(0.05)
                kinds, end = _kinds(path)
            if "run" not in kinds:
                path.unlink()
            elif end < path.stat().st_size:
                os.truncate(path, end)


def _kinds(path: Path) -> tuple[set[str], int]:
    """Kinds of a file's complete records, and the offset at which the last of them ends."""
    found = [(record.WhichOneof("record_type"), end) for record, end in _records(path.read_bytes())]
    return {kind for kind, _ in found}, found[-1][1] if found else 0


def _files(folder: Path, run_id: str) -> list[Path]:
    return list(folder.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of metrics in a file, each as metric name -> value."""
    with suppress(OSError):
        for record, _ in _records(path.read_bytes()):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item  # a picture has one item per field, with a nested key
                yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[tuple[Any, int]]:
    """The records of a file up to the first incomplete one, each with the offset of its end."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    with suppress(DecodeError):
        for data, end in _chunks(content):
            yield messages.Record.FromString(data), end


def _chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The data of complete records, each with the offset of its end.

    The format is LevelDB's log after a header of 7 bytes: chunks of checksum, length, kind and data, none of which
    crosses the end of a block (https://github.com/google/leveldb/blob/main/doc/log_format.md).
    """
    at, parts = _HEAD, b""
    while at + _CHUNK_HEAD <= len(content):
        room = _BLOCK - at % _BLOCK
        if room < _CHUNK_HEAD:  # the rest of a block is padding
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        at += _CHUNK_HEAD
        if not _WHOLE <= kind <= _LAST or at + length > len(content):
            return
        parts += content[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            yield parts, at
            parts = b""
