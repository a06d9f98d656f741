"""Writes the log of a run's metrics, a JSON-lines file in the run's folder."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError


class MetricsFile:
    """The file `metrics.jsonl` of a run: one JSON object per line, each appended at once; NaN becomes null.

    Args:
        path: the file; its folder is created.
        keep: number of lines to keep when a run is resumed, by default all complete ones. The rest is cut off.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_lines(path.read_bytes() if path.exists() else b"")[:keep]
        self._lines = len(whole)
        if path.exists():
            os.truncate(path, sum(len(line) for line in whole))

    @property
    def lines(self) -> int:
        """Number of lines in the file."""
        return self._lines

    def records(self) -> list[dict[str, Any]]:
        """The JSON objects of all lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").split("\n")[: self._lines]]

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one line. Floats that are not finite become null, and `nonfinite` lists their names."""
        lost: list[str] = []
        plain = _finite(record, "", lost)
        if lost:
            plain["nonfinite"] = lost
        line = json.dumps(plain, allow_nan=False, ensure_ascii=False)
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:  # opened for each line: nothing to close
                file.write(line + "\n")
        except OSError as error:  # a full disk, or a folder that was deleted meanwhile
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); what was saved stays: mend that, and run it again"
            ) from None
        self._lines += 1


def _whole_lines(content: bytes) -> list[bytes]:
    """The lines up to the first that is incomplete or not a JSON object."""
    whole = []
    for line in content.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                whole.append(line)
                continue
        break
    return whole


def _finite(value: Any, name: str, lost: list[str]) -> Any:
    """Converts to plain JSON values, null for floats that are not finite; appends the names of these to `lost`."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item, f"{name}.{key}" if name else str(key), lost) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_finite(item, f"{name}.{place}", lost) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(name)
        return None
    return value
