"""Numbers of checked texts, written and read again."""

from pathlib import Path

import numpy as np
from support.refusals import refused

from flax_agnews.data.checks import DataCheck, Finding
from flax_agnews.runs.checks_file import CHECKS, read_checked, write_checked


def finding(split: str, other: str | None, numbers: list[int]) -> Finding:
    check = DataCheck(kind="alike", split=split, other=other, texts=len(numbers), examples=[])
    return Finding(check, np.array(numbers, np.int64))


def test_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_checked(tmp_path) is None
    write_checked(tmp_path, [])
    assert read_checked(tmp_path) == {}
    findings = [finding("train", None, [1]), finding("test", "train", [2, 70_000]), finding("test", None, [])]
    write_checked(tmp_path, [*findings, finding("validation", None, [0])])
    found = read_checked(tmp_path)
    assert found is not None
    assert {check: numbers.tolist() for check, numbers in found.items()} == {
        ("alike", "test", "train"): [2, 70_000],
        ("alike", "validation", None): [0],
    }
    (tmp_path / CHECKS).write_bytes(b"PAR1")
    assert str(tmp_path / CHECKS) in refused(read_checked, tmp_path)
