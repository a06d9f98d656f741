"""Logs metrics, pictures and tables as TensorBoard event files, where that is turned on.

An event file is a sequence of records, each its length, a checksum, data and a checksum; the data are one `Event`
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). `tensorboard` has the messages and
the record writer. Its own `EventFileWriter`, which imports TensorFlow where that is installed and writes in a thread
whose errors nobody sees, isn't used.
"""

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from flax_agnews.config import TrackingConfig
from flax_agnews.errors import UserError, first_line, flag
from flax_agnews.system.text import pipe_table

EVENT_FILES = "events.out.tfevents.[0-9]*.flax_agnews"
"""Pattern of the names of event files; TensorBoard reads files whose names hold `tfevents`, in the order of names."""

_FLUSH_SECONDS = 5.0  # longest time that metrics wait in memory: TensorBoard reads every 30 seconds
_LONGEST_TABLE = 1000  # rows; it is one text, which browsers show at once
_LENGTH, _CHECKSUM = 8, 4  # bytes


class TensorBoardTracker:
    """Writes one event file into a folder. After its first error, reported in one line, it writes nothing more.

    The file is begun by what is logged first, and replaces those of earlier processes, since a resumed run logs its
    earlier metrics again. So no step is lost or repeated, and none stays that was trained after the checkpoint. Each
    step keeps the time at which it was logged first.

    Args:
        folder: the folder; TensorBoard shows it as a run with the folder's name, below the folder that it was given.
        note: called with the line that reports the error.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder, self._note = folder, note
        self._file: BinaryIO | None = None
        self._over = False
        self._step, self._flushed = 0, 0.0
        self._times: dict[int, float] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics by name, as float32."""
        self._step = step
        self._safely(lambda: self._write([{"tag": name, "simple_value": value} for name, value in metrics.items()]))

    def figure(self, name: str, path: Path) -> None:
        """Logs a picture, a PNG file, at the last step."""
        self._safely(lambda: self._write([{"tag": name, "image": _image(path.read_bytes())}]))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table as Markdown at the last step; a table of more than 1,000 rows isn't logged."""
        if len(rows) <= _LONGEST_TABLE:
            text = pipe_table(columns, [[_cell(value) for value in row] for row in rows], left=len(columns))
            self._safely(lambda: self._write([{"tag": name, **_text(text)}]))

    def files(self, name: str, paths: Sequence[Path]) -> None:
        """Does nothing: TensorBoard shows no files."""

    def finish(self) -> bool:
        """Ends the event file; returns whether everything was logged."""
        kept = not self._over and self._file is not None
        if self._file is not None:
            self._safely(self._file.close)
        kept, self._over = kept and not self._over, True
        return kept

    def _safely(self, act: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            act()
        except Exception as error:  # tracking must never end a training run
            self._note(f"TensorBoard is off: {first_line(error)}")
            self._over = True
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()

    def _write(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Writes an event with the values, at the last step."""
        if self._file is None:
            self._begin()
        self._event(step=self._step, summary={"value": values})
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def _begin(self) -> None:
        """Begins the event file, and empties that of an earlier process."""
        self._folder.mkdir(parents=True, exist_ok=True)
        second = int(time.time())
        for path in sorted(self._folder.glob(EVENT_FILES)):
            second = max(second, int(path.suffixes[-2].removeprefix(".")) + 1)
            self._times |= _times(path.read_bytes())
            if path.stat().st_size:
                os.truncate(path, 0)  # not removed: a TensorBoard that reads it would never go on to the next file
            else:
                path.unlink()
        self._file = (self._folder / EVENT_FILES.replace("[0-9]*", f"{second:010d}")).open("wb")
        self._event(file_version="brain.Event:2")
        # Whoever has read the earlier files already forgets all steps from 0 on.
        self._event(step=0, session_log={"status": "START"})
        self._flush()

    def _event(self, step: int | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time() if step is None else self._times.get(step, time.time())
        RecordWriter(self._file).write(Event(wall_time=now, step=step, **content).SerializeToString())

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()
        self._flushed = time.monotonic()


def check_tensorboard(config: TrackingConfig) -> None:
    """Raises a `UserError` where event files are asked for and `tensorboard` isn't installed."""
    if config.tensorboard:
        try:
            import tensorboard.compat.proto.event_pb2  # noqa: F401
        except ImportError:
            raise UserError(
                f"{flag('tracking.tensorboard')} true: TensorBoard is not installed. Run pip install tensorboard"
            ) from None


def _times(content: bytes) -> dict[int, float]:
    """The time of the first metrics of each step in an event file, up to the first record that is incomplete."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[int, float] = {}
    with suppress(DecodeError):
        for data in _records(content):
            event = Event.FromString(data)
            if event.HasField("summary"):
                found.setdefault(event.step, event.wall_time)
    return found


def _records(content: bytes) -> Iterator[bytes]:
    """The data of an event file's complete records."""
    at = 0
    while at + _LENGTH + _CHECKSUM <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        at += _LENGTH + _CHECKSUM
        if at + length + _CHECKSUM > len(content):
            return
        yield content[at : at + length]
        at += length + _CHECKSUM


def _image(content: bytes) -> dict[str, Any]:
    """The message of a picture; a PNG file has its width and height in its first chunk."""
    width, height = struct.unpack_from(">II", content, 16)
    return {"height": height, "width": width, "colorspace": 4, "encoded_image_string": content}


def _text(text: str) -> dict[str, Any]:
    """The message of a text, which TensorBoard shows as Markdown."""
    tensor = {"dtype": "DT_STRING", "string_val": [text.encode()], "tensor_shape": {}}
    return {"tensor": tensor, "metadata": {"plugin_data": {"plugin_name": "text"}}}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
