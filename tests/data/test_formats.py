"""Files as people have them: other delimiters, compressed, in arrays, in parts, saved by other libraries."""

import csv
import gzip
import io
import json
import lzma
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.source_files import ROWS, folder, load, pairs, refusal, write

from flax_agnews.data import json_rows, streams, tables
from flax_agnews.data.chunks import Reading
from flax_agnews.errors import UserError

NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def delimited(rows: list[tuple[Any, ...]], delimiter: str, columns: tuple[str, ...] = ("text", "label")) -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([columns, *rows])
    return file.getvalue().encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


def read_rows(path: Path, size: int = 2, **how: Any) -> list[tuple[object, object]]:
    chunks = [c.rows(["text"], "label") for c in tables.read(path, size, Reading(["text", "label"], **how))]
    return [row for rows in chunks for row in zip(rows.texts, rows.labels, strict=True)]


def in_words(rows: Any) -> list[tuple[str, str]]:
    return [(text, str(label)) for text, label in rows]


# Delimiters


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_header_shows_the_delimiter(tmp_path: Path, delimiter: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(delimited(ROWS, delimiter))
    assert pairs(load(path, test_source=str(path)).test) == ROWS
    assert read_rows(path) == in_words(ROWS)
    with tables.writing(tmp_path / f"b{suffix}") as out:  # and without knowing which columns are wanted
        for chunk in tables.read(path, 4):
            out(chunk, {"label_": ["x\ry"] * len(chunk.numbers)})
    with (tmp_path / f"b{suffix}").open(encoding="utf-8", newline="") as file:
        copied = list(csv.reader(file, delimiter=delimiter))
    assert copied == [["text", "label", "label_"], *([text, str(label), "x\ry"] for text, label in ROWS)]


@pytest.mark.parametrize(("given", "written"), [("^", "^"), ("tab", "\t"), (":", ":")])
def test_a_delimiter_that_is_named(tmp_path: Path, given: str, written: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited(ROWS, written))
    assert pairs(load(path, test_source=str(path), delimiter=given).test) == ROWS


def test_a_delimiter_is_chosen_by_the_columns_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited([("a", 1, 0), ("b", 2, 1)], ";", ("text", "size, in words, and so on", "label")))
    assert read_rows(path) == [("a", "0"), ("b", "1")]


def test_a_delimiter_that_is_wrong_or_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(delimited(ROWS, "^"))
    message = refusal(path, test_source=str(path))
    assert message.startswith(f"--data.text_column text: {path} has the columns text^label. ")
    assert "--data.delimiter CHARACTER" in message
    assert "--data.delimiter" in refusal(path, test_source=str(path), delimiter=";")


# Headers


@pytest.mark.parametrize("name", ["Text", "TEXT", " text "])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_header_in_other_case_says_which_setting_takes_it(tmp_path: Path, name: str, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", ROWS, (name, "label"))
    message = refusal(path, test_source=str(path))
    assert message.startswith("--data.text_column text: ")
    fix = message.partition("Did you mean ")[2].removesuffix("?")
    flag, _, value = fix.partition(" ")
    assert flag == "--data.text_column"
    assert pairs(load(path, test_source=str(path), text_column=value.strip("'")).test) == ROWS


def test_a_missing_header_says_which_one_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"Wall St. Bears Claw Back",3\n"Carlyle Looks Toward Aerospace",2\n')
    message = refusal(path, test_source=str(path))
    assert "Wall St. Bears Claw Back" in message
    header = message.rpartition("put one above it: ")[2]
    path.write_text(header + "\n" + path.read_text())
    assert load(path, test_source=str(path)).test.texts == [
        "Wall St. Bears Claw Back",
        "Carlyle Looks Toward Aerospace",
    ]


# Line ends, marks and encodings


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_line_ends_and_marks(tmp_path: Path, end: str, mark: bytes, suffix: str) -> None:
    """Lines that are texts' own stay as they are, those of the file don't matter."""
    texts = ["Ünïcödé ☃", "two\r\nlines", "an old\rone", "\ufeffa mark", " \u2028 "]
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        file = io.StringIO()
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end)
        writer.writerows([("text", "label"), *((text, "0") for text in texts)])
        content = file.getvalue()
    else:
        objects = [json.dumps({"text": text, "label": "0"}, ensure_ascii=False) for text in texts]
        content = end.join(objects) + end if suffix == ".jsonl" else f"[{end}{f',{end}'.join(objects)}{end}]{end}"
    path.write_bytes(mark + content.encode())
    assert read_rows(path) == [(text, "0") for text in texts]


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


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
@pytest.mark.parametrize("encoding", ["UTF-16", "WINDOWS-1252"])
def test_the_advice_about_an_encoding_works(tmp_path: Path, suffix: str, encoding: str) -> None:
    """The command that the error gives, run, makes a file that is read."""
    rows = [("café", "0"), ("naïve", "1")]
    good = write(tmp_path / "good.jsonl", rows) if suffix != ".csv" else write(tmp_path / "good.csv", rows)
    path, new = tmp_path / f"old{suffix}", tmp_path / f"new{suffix}"
    content = good.read_text("utf-8")
    if suffix == ".json":
        content = "[" + ",\n".join(content.splitlines()) + "]"
    path.write_bytes(content.encode(encoding))
    message = refusal(path, test_source=str(path))
    line = 1 if encoding == "UTF-16" or suffix != ".csv" else 2
    assert message.startswith(f"{path} line {line}: byte 0x")
    command = message.partition("such as by ")[2].replace("OLD", str(path)).replace("NEW", str(new))
    subprocess.run(command, shell=True, check=True)
    assert read_rows(new) == rows


def test_class_names_are_read_as_they_are_written(tmp_path: Path) -> None:
    names = ["Wörld", " Sports", "a \u2028 b", "Sci/Tech"]
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode() + b"\r\n")
    assert load(folder(tmp_path)).classes == names
    (tmp_path / "classes.txt").write_bytes(b"a\nb\nc\n\xe9\n")
    assert f"{tmp_path / 'classes.txt'} line 4: byte 0xe9 is not UTF-8" in refusal(tmp_path)


# Compressed


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


# JSON arrays


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


# Columns inside of columns


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_dots_lead_into_columns(tmp_path: Path, suffix: str) -> None:
    rows = [{"body": {"en": text}, "meta": {"label": {"fine": label}}} for text, label in ROWS]
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    names = {"text_column": "body.en", "label_column": "meta.label.fine"}
    assert pairs(load(path, test_source=str(path), **names).test) == ROWS
    message = refusal(path, test_source=str(path), **{**names, "text_column": "body.de"})
    assert message == f"--data.text_column body.de: {path} has the columns body.en, meta.label"


def test_a_column_that_is_null_for_long_still_has_columns_inside(tmp_path: Path) -> None:
    rows = [{"text": "a", "meta": {"label": "x"}}, {"text": "b", "meta": None}, {"text": "c", "meta": 3}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    chunks = [chunk.rows(["text"], "meta.label") for chunk in tables.read(tmp_path / "a.jsonl", 1)]
    assert [rows.labels for rows in chunks] == [["x"], [None], [None]]


def test_a_column_whose_name_has_a_dot_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"a.b": t, "a": {"b": "no"}, "label": n}) for t, n in ROWS))
    assert pairs(load(path, test_source=str(path), text_column="a.b").test) == ROWS


# Class names in Parquet


def features(**columns: Any) -> datasets.Features:
    return datasets.Features(text=datasets.Value("string"), **columns)


def test_parquet_of_the_datasets_library_has_class_names(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    made = datasets.Dataset.from_dict(dict(zip(("text", "label"), zip(*ROWS, strict=True), strict=True)))
    made = made.cast(features(label=label))
    for split in ("train", "test"):
        made.to_parquet(tmp_path / f"{split}.parquet")
    corpus = load(tmp_path)
    assert corpus.classes == NAMES
    assert pairs(corpus.test) == ROWS
    with tables.writing(tmp_path / "answered.parquet") as out:
        for chunk in tables.read(tmp_path / "test.parquet", 4):
            out(chunk, {"answer": ["World"] * len(chunk.numbers)})
    again = datasets.Dataset.from_parquet(str(tmp_path / "answered.parquet"), keep_in_memory=True)
    assert again.features["label"] == label
    assert again["answer"] == ["World"] * len(ROWS)


def test_class_names_inside_of_a_column(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    rows = {"text": [t for t, _ in ROWS], "meta": [{"label": n} for _, n in ROWS]}
    made = datasets.Dataset.from_dict(rows, features=features(meta={"label": label}))
    made.to_parquet(tmp_path / "a.parquet")
    [chunk] = tables.read(tmp_path / "a.parquet", 99)
    assert chunk.rows(["text"], "meta.label").names == NAMES


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}', b'{"info": {"features": {"label": 7}}}',
                b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}', b"\xff", b"[" * 10**5],
)  # fmt: skip
def test_odd_metadata_declares_nothing(tmp_path: Path, content: bytes) -> None:
    table = pa.table({"text": ["a", "b"], "label": [0, 1]}).replace_schema_metadata({"huggingface": content})
    pq.write_table(table, tmp_path / "a.parquet")
    [chunk] = tables.read(tmp_path / "a.parquet", 99)
    rows = chunk.rows(["text"], "label")
    assert (rows.names, rows.labels) == (None, [0, 1])


# Several files


def test_files_by_a_pattern(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"part-{number}.csv", ROWS[2 * number : 2 * number + 2])
    write(tmp_path / "other.csv", ROWS[:2])
    corpus = load(tmp_path / "part-*.csv", test_source=str(tmp_path / "o*.csv"))
    assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(ROWS)
    assert pairs(corpus.test) == ROWS[:2]
    assert read_rows(tmp_path / "part-?.csv", size=99) == in_words(ROWS)
    assert refusal(tmp_path / "none-*.csv", test_source="x.csv") == f"{tmp_path}/none-*.csv: matches no file"


def test_a_mistake_in_one_of_several_files_names_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "b.jsonl", [("x", 0), ("y", None)])
    write(tmp_path / "c.csv", ROWS)
    message = refusal(tmp_path / "*.*", test_source=str(tmp_path / "a.csv"))
    assert message.startswith(f"{tmp_path / 'b.jsonl'} line 2: the label is missing")


def shards(place: Path, split: str, rows: list[tuple[str, int]], count: int = 2) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write(place / f"{split}-{number:05}-of-{count:05}.parquet", rows[number::count])


@pytest.mark.parametrize("inner", [".", "data"])
def test_shards_as_the_hub_lays_them_out(tmp_path: Path, inner: str) -> None:
    for split in ("train", "test", "validation"):
        shards(tmp_path / inner, split, ROWS)
    corpus = load(tmp_path)
    theirs = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    for ours, split in ((corpus.train, "train"), (corpus.validation, "validation"), (corpus.test, "test")):
        assert pairs(ours) == list(zip(theirs[split]["text"], theirs[split]["label"], strict=True))


def test_files_about_the_data_are_no_splits(tmp_path: Path) -> None:
    """Older data sets of the hub have one beside the folder of shards."""
    for split in ("train", "test"):
        shards(tmp_path / "data", split, ROWS)
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    (tmp_path / ".train.csv").write_text("text,label")
    assert sorted(pairs(load(tmp_path).test)) == sorted(ROWS)
    assert refusal(tmp_path, train_split="x").endswith("has the splits test, train")


def test_a_missing_shard_and_two_layouts_are_refused(tmp_path: Path) -> None:
    shards(tmp_path, "train", ROWS, count=3)
    shards(tmp_path, "test", ROWS)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    assert "00001 are missing" in refusal(tmp_path)
    write(tmp_path / "train.csv", ROWS)
    assert "keep one of them" in refusal(tmp_path)


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for number in range(3):
            write(tmp_path / split / f"{number:04}.jsonl", ROWS[2 * number : 2 * number + 2])
    assert pairs(load(tmp_path).test) == ROWS


# Folders of save_to_disk


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=NAMES)
    columns = dict(zip(("text", "label"), map(list, zip(*ROWS, strict=True)), strict=True))
    made = datasets.Dataset.from_dict(columns, features=features(label=label))
    datasets.DatasetDict(train=made, test=made.select([3, 0, 1])).save_to_disk(tmp_path / "all")
    corpus = load(tmp_path / "all")
    assert corpus.classes == NAMES
    assert pairs(corpus.test) == [ROWS[3], ROWS[0], ROWS[1]]
    assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(ROWS)
    assert read_rows(tmp_path / "all") == pairs(corpus.test)
    assert read_rows(tmp_path / "all" / "train", only=True) == ROWS

    assert "has no test split" in refusal(tmp_path / "all" / "train")
    alone = load(tmp_path / "all" / "train", test_fraction=0.3)
    assert sorted(pairs(alone.train) + pairs(alone.validation) + pairs(alone.test)) == sorted(ROWS)
    (tmp_path / "all" / "train" / "state.json").write_text("{}")
    assert "can't be read as a data set of save_to_disk" in refusal(tmp_path / "all")


def test_reading_a_folder_takes_its_test_split(tmp_path: Path) -> None:
    folder(tmp_path, test=ROWS[:2])
    assert read_rows(tmp_path) == in_words(ROWS[:2])
    (tmp_path / "test.csv").unlink()
    with pytest.raises(UserError, match="has the splits train, not test; give the file instead"):
        read_rows(tmp_path)
