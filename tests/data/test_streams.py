"""Plain and compressed files are read line by line in bounded memory."""

import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.source_files import ROWS, delimited, load, pairs, refusal, write

from flax_agnews.data import streams, tables


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from("a\r\né☃"), max_size=40),
    cuts=st.lists(st.integers(1, 9), max_size=30),
)
def test_lines_are_pythons_however_the_bytes_come(text: str, cuts: list[int]) -> None:
    """Against the text files of Python itself; a block may end anywhere, inside a letter too."""
    data, sizes = text.encode(), iter(cuts)
    rest = io.BytesIO(data)

    class Slow:
        def read1(self, size: int) -> bytes:
            return rest.read(next(sizes, size))

    expected = list(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=""))
    assert list(streams.Utf8("here", Slow())) == expected


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_compressed_files_are_read_and_written(tmp_path: Path, compression: str, suffix: str) -> None:
    kind = ".csv" if suffix == ".tsv" else ".jsonl" if suffix == ".json" else suffix
    content = write(tmp_path / f"plain{kind}", ROWS).read_bytes()
    path = tmp_path / f"train{suffix}{compression}"
    path.write_bytes(COMPRESS[compression](content))
    (tmp_path / f"test{suffix}{compression}").write_bytes(COMPRESS[compression](content))
    assert pairs(load(tmp_path).test) == ROWS

    plain, again = tmp_path / f"copy{suffix}", tmp_path / f"copy{suffix}{compression}"
    for target in (plain, again):
        with tables.writing(target) as out:
            for chunk in tables.read(path, 4):
                out(chunk, {"new": ["☃\r"] * len(chunk.numbers)})
    decompress = {".gz": gzip.decompress, ".xz": lzma.decompress, ".zst": lambda data: pa.CompressedInputStream(
        pa.BufferReader(data), "zstd").read()}  # fmt: skip
    assert decompress[compression](again.read_bytes()) == plain.read_bytes()
    assert [rows.texts for c in tables.read(again, 99) for rows in [c.rows(["new"])]] == [["☃\r"] * len(ROWS)]


@pytest.mark.parametrize("compression", COMPRESS)
def test_broken_compression_is_one_line(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.csv{compression}"
    whole = COMPRESS[compression](delimited([(f"text {n} {n * n % 977}", n % 2) for n in range(5000)], ","))
    damaged = [whole[:100] + b"x" * 50 + whole[150:]] if compression != ".zst" else []  # has no checksum by default
    for content in (whole[: len(whole) // 2], b"no such thing at all", *damaged):
        path.write_bytes(content)
        assert refusal(path, test_source=str(path)).startswith(str(path))


def test_what_swells_when_it_is_decompressed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + (b"x" * 1000 + b",0\n") * 20_000))
    monkeypatch.setattr("flax_agnews.data.chunks.machine_memory", lambda: 20_000_000)
    tracemalloc.start()
    try:
        assert "more than half of this machine's memory" in refusal(path, test_source=str(path))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
