"""metrics.jsonl: its lines come back as they were written, are plain JSON, and only whole ones are kept."""

import json
import math

import numpy as np
import pytest

from flax_agnews.metrics.metrics_file import MetricsFile


def test_lines_come_back_as_they_were_written(tmp_path):
    records = [{"step": step, "train/loss": 1 / (step + 3), "name": "Ärger"} for step in range(5)]
    file = MetricsFile(tmp_path / "deep" / "metrics.jsonl")
    for number, record in enumerate(records, start=1):
        file.write(record)
        read = [json.loads(line) for line in file.path.read_text(encoding="utf-8").splitlines()]
        assert read == records[:number]  # on disk after every line, floats exact
        assert file.lines == number


def test_numpy_values_are_plain_json(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"loss": np.float32(0.1), "n": np.int64(7), "per_class": np.array([0.25, 0.5])})
    assert json.loads(file.path.read_text()) == {
        "loss": float(np.float32(0.1)),
        "n": 7,
        "per_class": [0.25, 0.5],
    }


def test_non_finite_floats_become_null_and_are_named(tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"a": math.nan, "b": 1.0, "c": {"d": [math.inf, 2.0]}, "e": np.float32("-inf")})
    record = json.loads(file.path.read_text(), parse_constant=refuse)
    assert record == {
        "a": None,
        "b": 1.0,
        "c": {"d": [None, 2.0]},
        "e": None,
        "nonfinite": ["a", "c.d.0", "e"],
    }


@pytest.mark.parametrize(
    ("content", "keep", "whole"),
    [
        (b'{"s":0}\n{"s":1}\n{"s":2}\n', None, 3),
        (b'{"s":0}\n{"s":1}\n{"s":2}\n', 2, 2),
        (b'{"s":0}\n{"s":1}\n{"s":2}\n', 0, 0),
        (b'{"s":0}\n{"s":1}\n{"s":', None, 2),
        (b'{"s":0}\n{"s":1}', None, 1),  # complete JSON, but its line end never came
        (b'{"s":0}\n{"s":1}\n', 9, 2),
        (b'{"s":0}\n\x00\x00\n{"s":2}\n', None, 1),  # a hole in the middle
        (b'{"s":0}\n17\n', None, 1),
    ],
)
def test_resuming_keeps_whole_lines_only(tmp_path, content, keep, whole):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    file = MetricsFile(path, keep)
    assert file.lines == whole
    file.write({"s": "new"})
    kept = [json.loads(line) for line in content.splitlines()[:whole]]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*kept, {"s": "new"}]
