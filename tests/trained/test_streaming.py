"""A file's answers are written in constant memory."""

import json
import tracemalloc
from pathlib import Path

import pytest
from support.answers import classifier, run

from flax_agnews.system.display import Display
from flax_agnews.trained import streaming
from flax_agnews.trained.classifier import Classifier

__all__ = ["classifier", "run"]  # fixtures


def test_a_file_of_any_size_takes_the_memory_of_a_chunk(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "ROWS", 256)

    def peak(rows: int) -> int:
        source = tmp_path / f"{rows}.jsonl"
        source.write_text("".join(json.dumps({"text": f"row {n}", "more": "x" * 300}) + "\n" for n in range(rows)))
        tracemalloc.start()
        try:
            target = source.with_suffix(".out.jsonl")
            display = Display()
            assert streaming.answer_file(classifier, source, target, ["text"], "", display) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)  # compiles
    small, large = peak(600), peak(6000)
    assert large < 1.3 * small
    assert large < 0.5 * (tmp_path / "6000.jsonl").stat().st_size
