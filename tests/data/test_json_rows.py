"""JSON arrays and lines: every array is read, and an error says where a broken one breaks."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.source_files import ROWS, read_rows, refusal

from flax_agnews.data import json_rows, tables


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.fixed_dictionaries({"text": st.text(max_size=20), "label": st.integers() | st.text(max_size=3) | st.none()}),
        min_size=1,
        max_size=6,
    ),
    indent=st.none() | st.integers(0, 3),
    ascii=st.booleans(),
    block=st.integers(1, 40),
)
def test_any_array_is_read(
    tmp_path: Path, records: list[dict[str, Any]], indent: int | None, ascii: bool, block: int
) -> None:
    content = json.dumps(records, indent=indent, ensure_ascii=ascii)
    blocks = (content[start : start + block] for start in range(0, len(content), block))
    assert list(json_rows._Array("here", blocks)) == records
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    if content.isascii():
        assert read_rows(path) == [(record["text"], record["label"]) for record in records]


@pytest.mark.parametrize(
    ("content", "tells"),
    [
        ('[{"text": "a", "label": 0},\n{"text": "b" "label": 1}]', " line 2: broken JSON"),
        ('[{"text": "a", "label": 0},\n{"text": "b", "label": 1}', " line 2: broken JSON: , or ] expected"),
        ('[{"text": "a", "label": 0},]', " line 1: broken JSON"),
        ('[{"text": "a", "label": 0}] []', " line 1: broken JSON: there is more after the array"),
        ('[{"text": "a", "label": 0},\n\n3]', " line 3: broken JSON: must be a JSON object"),
        ("[" * 200_000, " line 1: broken JSON: "),
        ("[]", " is empty"),
        ('[{"text": "a", "label": 0}, {"text": "b"}]', " row 2: the label is missing"),
        ('{"data": [{"text": "a", "label": 0}]}', " has the columns data"),
        ("", " is empty"),
    ],
)
def test_a_broken_array_says_where(tmp_path: Path, content: str, tells: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert f"{path}{tells}" in refusal(path, test_source=str(path))


def test_a_copied_array_is_an_array_and_copied_lines_are_lines(tmp_path: Path) -> None:
    records = [{"text": text, "more": {"n": label}} for text, label in ROWS]
    (tmp_path / "array.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, records)))
    for name in ("array", "lines"):
        with tables.writing(tmp_path / f"{name}.out.json") as out:
            for chunk in tables.read(tmp_path / f"{name}.json", 4):
                out(chunk, {"p": np.arange(len(chunk.numbers), dtype=np.float32)})
    expected = [record | {"p": float(number % 4)} for number, record in enumerate(records)]
    assert json.loads((tmp_path / "array.out.json").read_text()) == expected
    assert [json.loads(line) for line in (tmp_path / "lines.out.json").read_text().split("\n")[:-1]] == expected
    with tables.writing(tmp_path / "none.json") as out:
        (tmp_path / "empty.json").write_text("[]")
        for chunk in tables.read(tmp_path / "empty.json", 4):
            out(chunk, {"p": np.zeros(0, np.float32)})
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_an_array_of_any_size_takes_the_memory_of_a_chunk(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.json"
        path.write_text(json.dumps([{"text": f"row {n} " + "x" * 200, "label": 0} for n in range(rows)]))
        tracemalloc.start()
        try:
            assert sum(len(chunk.numbers) for chunk in tables.read(path, 200)) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 1.2 * peak(2_000)
