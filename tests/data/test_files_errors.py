"""Every mistake in local data files is one line that says where it is and what is wrong."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.source_files import ROWS, SUFFIXES, folder, refusal, write

from flax_agnews.data import files


@pytest.mark.parametrize("source", ["./nothing", "../nothing", "/no/thing", "~/nothing", "nothing.csv", "a/b/c", ""])
def test_a_missing_path_is_never_a_hub_id(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(source) == f"--data.source {source}: no such file or folder"


@pytest.mark.parametrize("source", ["fancyzhx/ag_news", "ag_news", "user/set.v2"])
def test_hub_ids_are_left_to_the_hub(source):
    assert not files.claims(source)


def test_a_single_file_needs_a_test_file(tmp_path):
    path = write(tmp_path / "a.csv", ROWS)
    assert "--data.test_source FILE" in refusal(path)
    assert refusal(path, test_source="./b.csv") == "--data.test_source ./b.csv: no such file or folder"
    assert ".csv, .tsv, .json, .jsonl, .parquet" in refusal(path, test_source=str(tmp_path))


@pytest.mark.parametrize("source", ["builtin", "fancyzhx/ag_news", "FOLDER"])
def test_a_test_file_is_for_single_files(tmp_path, source):
    path = write(tmp_path / "b.csv", ROWS)
    source = str(folder(tmp_path / "data")) if source == "FOLDER" else source
    assert refusal(source, test_source=str(path)).startswith("--data.test_source")


def test_files_missing_in_a_folder(tmp_path):
    assert refusal(tmp_path).startswith(f"--data.source {tmp_path}: has no file train.csv, or one that ends in ")
    write(tmp_path / "dev.jsonl", ROWS)
    assert refusal(tmp_path) == f"--data.train_split train: {tmp_path} has the splits dev"
    write(tmp_path / "train.csv", ROWS)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: has no test split. --data.test_split dev ")
    assert "--data.test_fraction 0.1" in message


def test_two_files_for_a_split(tmp_path):
    write(folder(tmp_path) / "train.jsonl", ROWS)
    assert "train.csv, train.jsonl" in refusal(tmp_path)


def test_an_unknown_format(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_text("text,label\na,0\n")
    assert ".csv, .tsv, .json, .jsonl, .parquet" in refusal(path, test_source=str(path))


def test_a_folder_in_place_of_a_file(tmp_path):
    folder(tmp_path)
    (tmp_path / "validation.csv").mkdir()
    assert str(tmp_path / "validation.csv") in refusal(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wrong_columns(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", ROWS)
    expected = f"{path} has the columns text, label"
    assert refusal(path, test_source=str(path), text_column="body") == f"--data.text_column body: {expected}"
    assert refusal(path, test_source=str(path), label_column="y") == f"--data.label_column y: {expected}"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wrong_columns_of_pairs(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", [("a", "b", 0), ("c", "d", 1)], columns=("one", "two", "label"))
    message = refusal(path, test_source=str(path), text_column=["one", "tow"])
    assert message == f"--data.text_column tow: {path} has the columns one, two, label"


def test_a_pair_of_one_text(tmp_path):
    path = write(tmp_path / "a.jsonl", [("a", "b", 0), ("c", None, 1)], columns=("one", "two", "label"))
    message = refusal(path, test_source=str(path), text_column=["one", "two"])
    assert message == f"{path} line 2: the second text is missing (an empty one would be allowed)"
    message = refusal(path, test_source=str(path), text_column=["two", "one"])
    assert message.startswith(f"{path} line 2: the first text is missing")


def test_a_column_twice(tmp_path):
    path = write(tmp_path / "a.csv", [("a", "b", 0)], columns=("text", "text", "label"))
    assert "text 2 times" in refusal(path, test_source=str(path))


def test_no_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"A long\nheadline that goes on and on and on and on and on",0\nb,1\n')
    message = refusal(path, test_source=str(path))
    assert message.startswith("--data.text_column text: ")
    assert "A long headline" in message


BROKEN = {
    # name: (file, content, where, a word of what is wrong)
    "empty csv": ("a.csv", b"", "", "empty"),
    "blank csv": ("a.csv", b"\n \n", "", "empty"),
    "header only": ("a.csv", b"text,label\n", "", "no rows"),
    "short row": ("a.csv", b"text,label\na,0\nb\nc,1\n", " line 3", "1 fields"),
    "long row": ("a.csv", b'text,label\n"a\nb",0\nc,1,2\n', " line 4", "3 fields"),
    "open quote": ("a.csv", b'text,label\na,0\n"b,1\nc,0\n', " line 3", "CSV"),
    "text after quote": ("a.csv", b'text,label\na,0\n"b"c,1\n', " line 3", "CSV"),
    "latin-1": ("a.csv", "text,label\na,0\ncafé,1\n".encode("latin-1"), " line 3", "UTF-8"),
    "utf-16": ("a.jsonl", '{"text": "a", "label": 0}\n'.encode("utf-16"), " line 1", "UTF-8"),
    "empty jsonl": ("a.jsonl", b"", "", "empty"),
    "broken json": ("a.jsonl", b'{"text": "a", "label": 0}\n\n{"text": "b"\n', " line 3", "JSON"),
    "no object": ("a.jsonl", b'{"text": "a", "label": 0}\n["b", 1]\n', " line 2", "object"),
    "deep json": ("a.jsonl", b"[" * 200_000 + b"\n", " line 1", "JSON"),
    "huge number": ("a.jsonl", b'{"text": "a", "label": ' + b"9" * 5000 + b"}\n", " line 1", "JSON"),
    "null text": (
        "a.jsonl",
        b'{"text": "a", "label": 0}\n{"text": null, "label": 1}\n',
        " line 2",
        "missing",
    ),
    "no text": ("a.jsonl", b'{"text": "a", "label": 0}\n{"label": 1}\n', " line 2", "missing"),
    "no label": ("a.jsonl", b'{"text": "a", "label": 0}\n{"text": "b"}\n', " line 2", "missing"),
    "number as text": (
        "a.jsonl",
        b'{"text": "a", "label": 0}\n{"text": 5, "label": 1}\n',
        " line 2",
        "no text",
    ),
    "half a pair": ("a.jsonl", b'{"text": "a\\ud83d", "label": 0}\n', " line 1", "Unicode"),
    "empty parquet": ("a.parquet", b"", "", "Parquet"),
    "broken parquet": ("a.parquet", b"PAR1 this is no table PAR1", "", "Parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path, name):
    file, content, where, word = BROKEN[name]
    path = tmp_path / file
    path.write_bytes(content)
    message = refusal(path, test_source=str(path))
    assert message.startswith(f"{path}{where}{':' if where else ''}")
    assert word in message
    good = write(tmp_path / "good.csv", ROWS)
    assert refusal(good, test_source=str(path)) == message  # the same in the test file


def parquet(path: Path, columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_mistakes_in_parquet_name_the_row(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"text": ["a", None], "label": [0, 1]})
    assert refusal(path, test_source=str(path)).startswith(f"{path} row 2: the text is missing")
    path = parquet(tmp_path / "c.parquet", {"text": [1, 2], "label": [0, 1]})
    assert refusal(path, test_source=str(path)).startswith(f"{path} row 1: 1 is no text")
    nothing = {"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}
    path = parquet(tmp_path / "d.parquet", nothing)
    assert refusal(path, test_source=str(path)).startswith(f"{path} has no rows")


def test_parquet_that_is_cut_off(tmp_path):
    whole = write(tmp_path / "a.parquet", ROWS * 100)
    whole.write_bytes(whole.read_bytes()[:-20])
    assert "broken Parquet" in refusal(whole, test_source=str(whole))
    damaged = write(tmp_path / "b.parquet", [(f"text {row}", row % 4) for row in range(5000)])
    content = bytearray(damaged.read_bytes())
    content[200:4000] = bytes(3800)
    damaged.write_bytes(bytes(content))
    assert str(damaged) in refusal(damaged, test_source=str(damaged))


def test_text_that_is_not_utf8_in_parquet(tmp_path):
    texts = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    path = parquet(tmp_path / "a.parquet", {"text": texts, "label": [0, 1]})
    assert str(path) in refusal(path, test_source=str(path))


def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "a.csv", ROWS)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        assert "can't be read" in refusal(path, test_source=str(path))
    else:
        pytest.skip("this user may read every file")
    finally:
        path.chmod(0o600)
