"""Patterns, shards and folders: which file belongs to which split."""

from pathlib import Path

import datasets
import pytest
from support.source_files import ROWS, folder, in_words, load, pairs, read_rows, refusal, write

from flax_agnews.errors import UserError


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


def test_reading_a_folder_takes_its_test_split(tmp_path: Path) -> None:
    folder(tmp_path, test=ROWS[:2])
    assert read_rows(tmp_path) == in_words(ROWS[:2])
    (tmp_path / "test.csv").unlink()
    with pytest.raises(UserError, match="has the splits train, not test; give the file instead"):
        read_rows(tmp_path)
