"""Reads the records of a .wandb file without the W&B client."""

import json
import struct
import time
from pathlib import Path


def wandb_records(path: Path):
    """The records of a .wandb file: a 7-byte header, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        room = 32768 - at % 32768
        if room < 7:  # no space for a header: the rest of the block is padding
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if at + 7 + length > len(content):
            break  # it is being written
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def wandb_history(path: Path) -> list[dict]:
    rows = []
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item  # a table or picture has one item a field, under its own name
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    return rows


def wait_for_end(path: Path) -> None:
    """Waits until W&B's own process has written a finished run's last record, which may be after `finish`."""
    end = time.monotonic() + 60
    while path.stat().st_size < 7 or all(record.WhichOneof("record_type") != "exit" for record in wandb_records(path)):
        assert time.monotonic() < end
        time.sleep(0.05)
