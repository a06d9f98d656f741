"""Reads files of JSON objects, one per line or in one array, in chunks, and writes them with added columns."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flax_agnews.data import streams
from flax_agnews.data.chunks import Added, Chunk, Reading, Write, check_new, grouped
from flax_agnews.errors import UserError
from flax_agnews.system.files import parse_json

_SPACE = " \t\r\n"
_EXAMPLE = 'must be a JSON object, such as {"text": "...", "label": 0}'


def line_chunks(path: Path, size: int, how: Reading) -> Iterator[Chunk]:
    """Reads a file with one JSON object per line in chunks; blank lines are skipped."""
    with streams.reading(path) as lines:
        records = ((lines.number, _object(f"{path} line {lines.number}", line)) for line in lines if line.strip())
        yield from _chunks(path, grouped(records, size, lambda: lines.bytes), "line", lines.done)


def chunks(path: Path, size: int, how: Reading) -> Iterator[Chunk]:
    """Reads a file in chunks that is one array of objects, or has one object per line."""
    with streams.reading(path) as text:
        start = next((block.lstrip(_SPACE)[:1] for block in text.blocks() if block.strip(_SPACE)), "")
    if start != "[":
        yield from line_chunks(path, size, how)
        return
    with streams.reading(path) as text:
        array = _Array(str(path), text.blocks())
        records = enumerate(array, start=1)
        yield from _chunks(path, grouped(records, size, lambda: array.read), "row", text.done)


def _chunks(
    path: Path, groups: Iterator[tuple[list[int], list[dict[str, object]]]], unit: str, done: Callable[[], float]
) -> Iterator[Chunk]:
    """Makes chunks of (row numbers, records), with the columns of the first row."""
    columns: list[str] = []
    inner: dict[str, Any] = {}
    for numbers, group in groups:
        columns = columns or list(group[0] if group else ())
        found = {name: next((r[name] for r in group if isinstance(r.get(name), Mapping)), None) for name in columns}
        inner = {**found, **{name: fields for name, fields in inner.items() if fields is not None}}

        def column(name: str, group: list[dict[str, object]] = group) -> list[object]:
            return [record.get(name) for record in group]

        place, array = str(path), unit == "row"
        yield Chunk(place, columns, group, numbers, unit, done(), column, fields=inner, array=array)


def _object(place: str, text: str) -> dict[str, object]:
    """Parses a line as a JSON object. UserError if it isn't one."""
    try:
        record = parse_json(text)
    except ValueError as error:
        raise UserError(f"{place}: broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{place}: {_EXAMPLE}")
    return record


class _Array:
    """Iterates over the objects of a JSON array without reading the whole file, whatever its line breaks.

    Attributes:
        read: number of characters read so far.
    """

    def __init__(self, place: str, blocks: Iterator[str]) -> None:
        self.read = 0
        self._place, self._blocks, self._decoder = place, blocks, json.JSONDecoder()
        self._text, self._at, self._line = "", 0, 1

    def __iter__(self) -> Iterator[dict[str, object]]:
        self._expect("[")
        if self._next() == "]":
            self._at += 1
        else:
            yield self._value()
            while self._expect(",]") == ",":
                yield self._value()
        if self._next():
            raise self._broken("there is more after the array")

    def _next(self) -> str:
        """Skips white space and returns the next character without consuming it; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _expect(self, allowed: str) -> str:
        found = self._next()
        if not found or found not in allowed:
            raise self._broken(f"{' or '.join(allowed)} expected")
        self._at += 1
        return found

    def _value(self) -> dict[str, object]:
        self._next()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                break
            except RecursionError:
                raise self._broken("nested too deep") from None
            except ValueError as error:  # broken, or not read completely yet
                if len(self._text) - self._at > streams.LONGEST:
                    raise self._broken(f"a value has more than {streams.LONGEST:,} characters") from None
                if not self._more():
                    self._at = getattr(error, "pos", self._at)
                    raise self._broken(getattr(error, "msg", str(error))) from None
        if not isinstance(value, dict):
            raise self._broken(_EXAMPLE)
        return value

    def _more(self) -> bool:
        """Drops the parsed part of the buffer and at least doubles the rest; returns False at the end."""
        self._line += self._text.count("\n", 0, self._at)
        pieces, self._at = [self._text[self._at :]], 0
        wanted = size = len(pieces[0])
        for block in self._blocks:
            pieces.append(block)
            size += len(block)
            self.read += len(block)
            if size > 2 * wanted:
                break
        self._text = "".join(pieces)
        return size > wanted

    def _broken(self, what: str) -> UserError:
        line = self._line + self._text.count("\n", 0, self._at)
        return UserError(f"{self._place} line {line}: broken JSON: {what}")


def line_writer(file: Any, stack: ExitStack) -> Write:
    """Writes chunks with new columns to a binary file, one object per line."""
    text = _text(file, stack)

    def write(chunk: Chunk, added: Added) -> None:
        for line in _written(chunk, added):
            text.write(line + "\n")

    return write


def writer(file: Any, stack: ExitStack) -> Write:
    """Writes chunks with new columns to a binary file, as an array or as lines like the file that was read."""
    text = _text(file, stack)
    before: list[str] = []  # text before the next object of an array; empty list before the first chunk

    def write(chunk: Chunk, added: Added) -> None:
        if not before and chunk.array:
            text.write("[")
            stack.callback(text.write, "\n]\n")
        before[:] = before or ["\n"]
        for line in _written(chunk, added):
            text.write(before[0] + line if chunk.array else line + "\n")
            before[:] = [",\n"]

    return write


def _text(file: Any, stack: ExitStack) -> io.TextIOWrapper:
    # Half of a surrogate pair, which JSON can write and UTF-8 can't, is written as JSON's escape again.
    return stack.enter_context(io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="\n"))


def _written(chunk: Chunk, added: Added) -> Iterator[str]:
    for record, *new in zip(chunk.records, *added.values(), strict=True):
        check_new(chunk.place, record, added)
        plain = (value if isinstance(value, str) else float(str(value)) for value in new)
        yield json.dumps({**record, **dict(zip(added, plain, strict=True))}, ensure_ascii=False)
