"""Tables are read in chunks: memory is constant, and a chunk of long rows ends early."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from flax_agnews.data import chunks, tables


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_of_any_size_takes_the_memory_of_a_chunk(tmp_path: Path, suffix: str) -> None:
    """Ten times the rows: the same peak, far below the size of the file."""

    def peak(rows: int) -> int:
        source, target = tmp_path / f"{rows}.{suffix}", tmp_path / f"{rows}.out.{suffix}"
        with source.open("w") as file:
            if suffix == "csv":
                file.write("text,n\n")
            for number in range(rows):
                text = f"row {number} " + "x" * 200
                file.write(f'"{text}",{number}\n' if suffix == "csv" else json.dumps({"text": text, "n": 1}) + "\n")
        tracemalloc.start()
        try:
            copied = 0
            with tables.writing(target) as write:
                for chunk in tables.read(source, 200):
                    write(chunk, {"label": ["a"] * len(chunk.records), "p": np.zeros(len(chunk.records), np.float32)})
                    copied += len(chunk.records)
            assert copied == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(2_000), peak(20_000)
    assert large < 1.2 * small
    assert large < 0.2 * (tmp_path / f"20000.{suffix}").stat().st_size


def test_long_rows_end_a_chunk_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MOST", 1000)
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(["x" * 400] * 20))
    assert max(len(chunk.records) for chunk in tables.read(tmp_path / "in.csv", 100)) == 3
