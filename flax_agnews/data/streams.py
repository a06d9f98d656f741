"""Reads lines and blocks of text from compressed or plain UTF-8 files, and writes such files."""

import codecs
import gzip
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, first_line
from flax_agnews.system.files import not_utf8

LONGEST = 10_000_000
"""Most characters of a line, a field or a JSON value: thousands of pages (the csv module's default is 131,072)."""

COMPRESSIONS = (".gz", ".xz", ".zst")
"""Suffixes of compressed files, which follow the suffix of the format."""

_BLOCK = 1 << 16  # bytes read at once
_MARK = codecs.BOM_UTF8


class Utf8:
    """Reads a UTF-8 file as lines or blocks of text; a byte order mark is dropped.

    Args:
        place: name of the file, for errors.
        file: the binary file, with `read1`.
        done: returns the share of the file that has been read.

    Attributes:
        number: number of the last line read, from 1.
        bytes: number of bytes in all lines read so far.
    """

    def __init__(self, place: str, file: Any, done: Callable[[], float] = lambda: 1.0) -> None:
        self.place, self.done, self.number, self.bytes = place, done, 0, 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        r"""Iterates over the lines with their ends, `\n`, `\r\n` or `\r`."""
        for line in self._lines():
            self.number, self.bytes = self.number + 1, self.bytes + len(line)
            try:
                text = line.removeprefix(_MARK).decode() if self.number == 1 else line.decode()
            except UnicodeDecodeError as error:
                raise self._not_utf8(self.number, line, error.start) from None
            if len(text) > LONGEST:
                raise self._too_long(self.number)
            yield text

    def blocks(self) -> Iterator[str]:
        """Iterates over the text in blocks, regardless of lines."""
        decoder, number = codecs.getincrementaldecoder("utf-8-sig")(), 1
        for block in itertools.chain(self._bytes(), [b""]):
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                number += error.object[: error.start].count(b"\n")
                raise self._not_utf8(number, error.object, error.start) from None
            number += text.count("\n")
            yield text

    def _lines(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        waiting = 0
        for block in self._bytes():
            ended = b"\n" in block or b"\r" in block or (parts and parts[-1].endswith(b"\r"))
            parts.append(block)
            waiting += len(block)
            if ended:
                *lines, last = b"".join(parts).splitlines(keepends=True)
                yield from lines
                parts = [last]
                if last.endswith(b"\n"):  # else it may be incomplete, or end in a \r before a \n
                    yield last
                    parts = []
                waiting = sum(map(len, parts))
            if waiting > 4 * LONGEST:
                raise self._too_long(self.number + 1)
        if parts:
            yield b"".join(parts)

    def _bytes(self) -> Iterator[bytes]:
        try:
            while block := self._file.read1(_BLOCK):
                yield block
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{self.place}: broken compression: {first_line(error)}") from None

    def _not_utf8(self, number: int, data: bytes, start: int) -> UserError:
        return UserError(f"{self.place} line {number}: {not_utf8(data, start)}")

    def _too_long(self, number: int) -> UserError:
        return UserError(f"{self.place} line {number}: has more than {LONGEST:,} characters")


@contextmanager
def reading(path: Path) -> Iterator[Utf8]:
    """Opens a file for reading, decompressed according to its suffix."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        size = max(1, path.stat().st_size)
        file = stack.enter_context(_decompressed(raw, path.suffix.lower()))
        yield Utf8(str(path), file, lambda: min(1.0, raw.tell() / size))


@contextmanager
def writing(path: Path, compression: str) -> Iterator[Any]:
    """Opens a binary file for writing, compressed according to its suffix."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("wb"))
        yield stack.enter_context(_compressed(raw, compression))


def _decompressed(raw: Any, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if compression == ".xz":
        return lzma.LZMAFile(raw)
    if compression == ".zst":
        import pyarrow as pa

        return pa.CompressedInputStream(raw, "zstd")
    return raw


def _compressed(raw: Any, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
    if compression == ".xz":
        return lzma.LZMAFile(raw, "wb")
    if compression == ".zst":
        import pyarrow as pa

        return pa.CompressedOutputStream(raw, "zstd")
    return raw
