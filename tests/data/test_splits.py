"""Which rows train, validate and test: splits by name, held out, and without labels; on disk and on the hub."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hub_standin import HubStandIn, client_environment
from support.source_files import ROWS, folder, load, pairs, refusal, write

from flax_agnews.config import DataConfig
from flax_agnews.data import hub, splits
from flax_agnews.data.sources import load_corpus

MANY = [(f"text {number}", number % 3) for number in range(50)]


# Names


@pytest.mark.parametrize("name", ["val", "valid", "dev", "validation"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_validation_split_by_any_of_its_names(tmp_path: Path, name: str, suffix: str) -> None:
    write(folder(tmp_path) / f"{name}{suffix}", ROWS[2:5])
    corpus = load(tmp_path)
    assert pairs(corpus.validation) == ROWS[2:5]
    assert pairs(corpus.train) == ROWS
    assert corpus.notes[1:] == (() if name == "validation" else (f"{name} validates",))


def test_the_names_are_those_of_the_datasets_library() -> None:
    """Each that it takes for validation is taken here."""
    from datasets.data_files import SPLIT_KEYWORDS
    from datasets.splits import Split

    assert set(SPLIT_KEYWORDS[Split.VALIDATION]) <= set(splits.VALIDATION)


def test_two_validation_splits_are_an_error_until_one_is_named(tmp_path: Path) -> None:
    write(folder(tmp_path) / "dev.csv", ROWS[:2])
    write(tmp_path / "val.csv", ROWS[2:4])
    assert refusal(tmp_path) == f"{tmp_path}: has val, dev: --data.validation_split val says which one validates"
    corpus = load(tmp_path, validation_split="dev")
    assert pairs(corpus.validation) == ROWS[:2]
    assert corpus.notes[1:] == ("dev validates",)


def test_splits_of_any_name(tmp_path: Path) -> None:
    for name, rows in (("first", ROWS), ("second", ROWS[:3]), ("third", ROWS[3:])):
        write(tmp_path / f"{name}.csv", rows)
    corpus = load(tmp_path, train_split="first", validation_split="second", test_split="third")
    assert [pairs(part) for part in (corpus.train, corpus.validation, corpus.test)] == [ROWS, ROWS[:3], ROWS[3:]]
    assert corpus.notes[1:] == ("first trains", "second validates", "third tests")


def test_the_validation_split_may_test(tmp_path: Path) -> None:
    """Then it doesn't validate as well."""
    write(folder(tmp_path, MANY) / "validation.csv", MANY[:9])
    corpus = load(tmp_path, test_split="validation")
    assert pairs(corpus.test) == MANY[:9]
    assert len(corpus.train) + len(corpus.validation) == len(MANY)


@pytest.mark.parametrize(
    ("named", "tells"),
    [
        ({"train_split": "trian"}, "--data.train_split trian: {path} has the splits test, train"),
        ({"validation_split": "dev"}, "--data.validation_split dev: {path} has the splits test, train"),
        ({"test_split": "tset", "test_fraction": 0.5}, "--data.test_split tset: {path} has the splits test, train"),
        ({"test_split": "train"}, "--data.train_split and --data.test_split: both are train"),
        ({"validation_split": "test"}, "--data.validation_split and --data.test_split: both are test"),
        ({"config": "none"}, "--data.config none: {path} has no such folder"),
    ],
)
def test_a_split_that_is_not_there(tmp_path: Path, named: dict[str, Any], tells: str) -> None:
    assert refusal(folder(tmp_path), **named).startswith(tells.format(path=tmp_path))


@pytest.mark.parametrize("setting", ["config", "train_split", "validation_split", "test_split"])
def test_a_source_without_named_splits_takes_no_names(tmp_path: Path, setting: str) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    for source in (path, "builtin"):
        more = {"test_source": str(path)} if source == path else {}
        assert refusal(source, **more, **{setting: "x"}).startswith(f"--data.{setting} x: is for folders and hub ")


def test_a_folder_of_several_data_sets(tmp_path: Path) -> None:
    folder(tmp_path / "cola")
    folder(tmp_path / "sst2", test=ROWS[:2])
    assert refusal(tmp_path).endswith("name one: --data.config cola or sst2")
    assert pairs(load(tmp_path, config="sst2").test) == ROWS[:2]


# Test rows held out of the training rows


def parts(corpus: Any) -> list[list[tuple[str, int]]]:
    return [pairs(part) for part in (corpus.train, corpus.validation, corpus.test)]


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_share_of_the_training_rows_tests(tmp_path: Path, source: str) -> None:
    path = write(tmp_path / "train.csv", MANY)
    corpus = load(tmp_path if source == "folder" else path, test_fraction=0.2)
    assert [len(part) for part in parts(corpus)] == [36, 4, 10]
    assert sorted(row for part in parts(corpus) for row in part) == sorted(MANY)
    assert pairs(corpus.test) == [row for row in MANY if row in pairs(corpus.test)]  # in their order
    assert corpus.notes[1:] == ("10 of the training rows held out as test rows",)


def test_held_out_rows_follow_the_seed_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", MANY)
    test = load(path, test_fraction=0.2).test.texts
    assert load(path, test_fraction=0.2).test.texts == test
    assert load(path, test_fraction=0.2, validation_fraction=0.5, limit_train=20).test.texts == test
    assert load(path, test_fraction=0.2, split_seed=1).test.texts != test
    validation = load(path, test_source=str(path), validation_fraction=0.2).validation.texts
    assert set(validation) != set(test)  # another purpose, another order


def test_a_share_that_leaves_nothing_and_one_that_is_not_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", MANY[:3])
    assert refusal(path, test_fraction=0.9).startswith("--data.test_fraction 0.9: leaves none of 3 training rows")
    write(tmp_path / "test.csv", MANY[3:6])
    corpus = load(tmp_path, test_fraction=0.5)
    assert pairs(corpus.test) == MANY[3:6]
    assert corpus.notes[1:] == ("data.test_fraction isn't needed: the test split has labels",)


def test_no_test_split_says_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", MANY)
    assert "--data.test_source FILE, or --data.test_fraction 0.1" in refusal(path)
    assert "--data.test_split" not in refusal(tmp_path)
    write(tmp_path / "val.csv", MANY[:5])
    message = refusal(tmp_path)
    assert "--data.test_split val tests on that one, or --data.test_fraction 0.1 " in message
    assert pairs(load(tmp_path, test_split="val").test) == MANY[:5]  # both work
    assert len(load(tmp_path, test_fraction=0.1).test) == 5


# Rows without labels


def typed(path: Path, labels: list[int | None], names: list[str] | None = None) -> Path:
    """A Parquet file of the `datasets` library; with class names its label is a ClassLabel."""
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    texts = [f"text {number}" for number in range(len(labels))]
    columns = datasets.Features(text=datasets.Value("string"), label=kind)
    made = datasets.Dataset.from_dict({"text": texts, "label": labels}, features=columns)
    made.to_parquet(path)
    return path


def test_single_rows_without_label_are_left_out_and_counted(tmp_path: Path) -> None:
    typed(tmp_path / "train.parquet", [0, -1, 1, None, 0, 1], ["ham", "spam"])
    typed(tmp_path / "test.parquet", [None, 1, 0], ["ham", "spam"])
    typed(tmp_path / "dev.parquet", [1, 0], ["ham", "spam"])
    corpus = load(tmp_path)
    assert [text for text, _ in pairs(corpus.train)] == ["text 0", "text 2", "text 4", "text 5"]
    assert corpus.test.texts == ["text 1", "text 2"]
    assert corpus.notes[1:] == (
        "dev validates",
        "2 rows of train without label left out",
        "1 row of test without label left out",
    )


def test_minus_one_without_class_names_is_a_class_that_is_named(tmp_path: Path) -> None:
    path = typed(tmp_path / "a.parquet", [0, 1, -1, None])
    corpus = load(path, test_source=str(path), validation_fraction=0.4)
    assert corpus.classes == ["-1", "0", "1"]
    assert "-1 is a class, too" in corpus.notes[0]


@pytest.mark.parametrize(("suffix", "blank"), [(".csv", ""), (".jsonl", None)])
def test_a_blank_label_in_a_text_file_is_an_error_with_its_line(tmp_path: Path, suffix: str, blank: Any) -> None:
    path = write(tmp_path / f"a{suffix}", [("a", 0), ("b", 1), ("c", blank)])
    line = 4 if suffix == ".csv" else 3
    assert refusal(path, test_source=str(path)).startswith(f"{path} line {line}: the label is missing")


def test_a_test_split_without_labels_says_what_works(tmp_path: Path) -> None:
    typed(tmp_path / "train.parquet", [0, 1] * 10, ["ham", "spam"])
    typed(tmp_path / "test.parquet", [-1] * 5, ["ham", "spam"])
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'test.parquet'}: none of its 5 rows has a label. --data.test_fraction 0.1 ")
    typed(tmp_path / "validation.parquet", [0, 1, 1], ["ham", "spam"])
    assert "--data.test_split validation tests on that one, or --data.test_fraction 0.1 " in refusal(tmp_path)
    assert load(tmp_path, test_split="validation").test.labels.tolist() == [0, 1, 1]
    held_out = load(tmp_path, test_fraction=0.1)
    assert len(held_out.test) == 2
    assert held_out.notes[1:] == ("test has no labels", "2 of the training rows held out as test rows")


def test_a_validation_split_without_labels_does_not_validate(tmp_path: Path) -> None:
    for split, labels in (("train", [0, 1] * 10), ("test", [0, 1]), ("validation", [None] * 4)):
        typed(tmp_path / f"{split}.parquet", list(labels), ["ham", "spam"])
    corpus = load(tmp_path)
    assert len(corpus.validation) == 2  # of the training rows
    assert corpus.notes[1:] == ("validation has no labels",)
    message = refusal(tmp_path, validation_split="validation")
    assert message.endswith(
        "has a label; --data.label_column names another column, --data.validation_split another split"
    )


def test_splits_whose_types_declare_other_class_names(tmp_path: Path) -> None:
    typed(tmp_path / "train.parquet", [0, 1], ["ham", "spam"])
    typed(tmp_path / "test.parquet", [0, 1], ["spam", "ham"])
    assert refusal(tmp_path, validation_fraction=0.5).startswith(
        f"{tmp_path / 'test.parquet'}: its type declares other"
    )


# The hub


def repository(place: Path) -> Path:
    """As GLUE: several configurations, a test split without labels; and single rows without."""
    rows: dict[str, list[int | None]] = {"train": [0, 1, None, -1] * 5, "validation": [0, 1, 1], "test": [-1] * 4}
    configs = []
    for config in ("cola", "sst2"):
        (place / config).mkdir(parents=True)
        for split, labels in rows.items():
            texts = [f"{config} {split} {number}" for number in range(len(labels))]
            table = pa.table({"text": texts, "label": pa.array(labels, pa.int64())})
            pq.write_table(table, place / config / f"{split}-00000-of-00001.parquet")
        names = {"0": "bad", "1": "good"}
        feature = {"name": "label", "dtype": {"class_label": {"names": names}}}
        features = [{"name": "text", "dtype": "string"}, feature]
        files = [{"split": split, "path": f"{config}/{split}-*"} for split in rows]
        configs.append(({"config_name": config, "features": features}, {"config_name": config, "data_files": files}))
    card = {"dataset_info": [info for info, _ in configs], "configs": [files for _, files in configs]}
    (place / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    return place


LOAD = """
import json, sys
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.errors import UserError
told = []
for more in json.loads(sys.argv[1]):
    try:
        c = load_corpus(DataConfig(source="nyu/glue", **more))
        told.append([c.classes, c.train.texts, c.validation.texts, c.test.texts, c.test.labels.tolist(), c.notes])
    except UserError as error:
        told.append(error.with_flags)
print(json.dumps(told))
"""


def test_a_hub_data_set_with_configurations_and_an_unlabelled_test_split(tmp_path: Path) -> None:
    tried: list[dict[str, Any]] = [
        {},
        {"config": "sst3"},
        {"config": "sst2"},
        {"config": "sst2", "test_split": "validation"},
        {"config": "sst2", "test_fraction": 0.2},
    ]
    with HubStandIn({}, {"nyu/glue": repository(tmp_path / "glue")}) as server:
        environment = client_environment(server.url, tmp_path / "home")
        command = [sys.executable, "-c", LOAD, json.dumps(tried)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    several, wrong, unlabelled, validation, held_out = json.loads(done.stdout.splitlines()[-1])
    assert several.startswith("nyu/glue has the configurations cola, sst2: --data.config cola ")
    assert wrong.startswith("--data.config sst3: nyu/glue has the configurations cola, sst2")
    assert unlabelled.startswith("nyu/glue test: none of its 4 rows has a label. --data.test_split validation ")
    assert "--data.test_fraction 0.1" in unlabelled

    classes, train, validates, test, labels, notes = validation
    assert classes == ["bad", "good"]
    assert (test, labels) == ([f"sst2 validation {number}" for number in range(3)], [0, 1, 1])
    assert sorted(train + validates) == sorted(f"sst2 train {number}" for number in range(20) if number % 4 < 2)
    assert notes[1:] == ["validation tests", "10 rows of train without label left out"]

    _, train, validates, test, labels, notes = held_out
    assert len(train + test) == 10
    assert labels == [int(text.split()[-1]) % 4 for text in test]
    assert validates == [f"sst2 validation {number}" for number in range(3)]
    assert notes[1:] == [
        "10 rows of train without label left out",
        "test has no labels",
        "2 of the training rows held out as test rows",
    ]


def test_columns_inside_of_columns_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hub's own library, from a folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    kinds = {"fine": datasets.ClassLabel(names=["b", "a"]), "n": datasets.Value("int64")}
    rows = {"text": ["x", "y", "z"], "meta": [{"fine": 1, "n": 5}, {"fine": -1, "n": 5}, {"fine": 0, "n": 6}]}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(text=datasets.Value("string"), meta=kinds))
    for split in ("train", "test"):
        made.to_parquet(tmp_path / "data" / f"{split}.parquet")
    found = hub.load(DataConfig(source=str(tmp_path / "data"), label_column="meta.fine"))
    train = found.splits["train"]
    assert (train.texts, train.labels, train.names, train.unlabelled) == (["x", "z"], [1, 0], ["b", "a"], 1)


def test_a_large_set_is_held_out_as_a_small_one() -> None:
    """A share of all rows, each once."""
    stay, held_out = splits.hold_out(1001, DataConfig(test_fraction=0.25, split_seed=3))
    assert len(held_out) == 251
    np.testing.assert_array_equal(np.sort(np.concatenate([stay, held_out])), np.arange(1001))


def test_builtin_may_hold_out_nothing() -> None:
    """It has a test split with labels."""
    corpus = load_corpus(DataConfig(source="builtin", limit_train=20, limit_test=5, test_fraction=0.1))
    assert corpus.notes[1:] == ("data.test_fraction isn't needed: the test split has labels",)
