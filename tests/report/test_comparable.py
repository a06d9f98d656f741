"""What may not stand in one report is refused, by the name of what differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.made_predictions import predictions
from support.output_folders import HEAD, experiment, output_folder
from support.refusals import refused

from flax_agnews.report.comparable import check_comparable, read_source
from flax_agnews.runs.predictions import Predictions, write_predictions

Change = Callable[[dict[str, Any]], Any]


def checked(path: Path, change: Change, runs: tuple[tuple[str, int], ...] = (("full", 44), ("head", 42))) -> None:
    """Compares a folder of full with seeds 42 and 43 with one of other runs whose results.json was changed."""
    results = experiment()
    one = output_folder(path / "one", results, [("full", 42), ("full", 43)])
    change(results)
    check_comparable([read_source(one), read_source(output_folder(path / "other", results, runs))])


def of_runs(**values: Any) -> Change:
    return lambda results: [run.update(values) for run in results["runs"]]


def of(section: str, **values: Any) -> Change:
    return lambda results: results[section].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of("data", train=100), "training texts: 3960 and 100"),
        (of("data", validation=20), "validation texts: 200 and 20"),
        (of("data", classes=["Sports", "World"]), "classes: ['World', 'Sports'] and ['Sports', 'World']"),
        (of("data", class_texts=[1, 2]), "training texts of each class: [2000, 1960] and [1, 2]"),
        (of("data", hash="e" * 64), "contents of the training texts, or the tokenizer, or how it is used (data.hash)"),
        (of("model", base="c" * 64), "weights of the body (gpt2 and gpt2)"),
        (of("model", base=None, name="gpt3"), "model: gpt2 and gpt3"),
        (of("model", width=64), "model width: 128 and 64"),
        (of("model", dtype="bfloat16"), "model dtype: float32 and bfloat16"),
        (of("model", precision="highest"), "model precision: default and highest"),
        (of("model", start="adapter"), "model start: None and adapter"),
        (of("settings", epochs=4), "--train.epochs: 3 and 4"),
        (of("settings", batch_size=8), "--train.batch_size: 32 and 8"),
        (of("settings", label_smoothing=0.1), "--train.label_smoothing: 0.0 and 0.1"),
        (of("settings", not_yet_known=1), "--train.not_yet_known: None and 1"),
        (of_runs(settings={"learning_rate": 0.1, "top_layers": None}), "--full.learning_rate: 0.001 and 0.1"),
        (of_runs(settings={"learning_rate": 0.001, "top_layers": 2}), "--full.top_layers: None and 2"),
        (of_runs(rate_factor=3.0), "full: factor on the rates: None and 3.0"),
        (of_runs(trainable_parameters=7), "full: trainable parameters: 912384 and 7"),
    ],
)
def test_what_differs_is_named(change: Change, said: str, tmp_path: Path) -> None:
    message = refused(checked, tmp_path, change)
    assert message == f"{tmp_path / 'one'} and {tmp_path / 'other'} can't be compared: {said}"


@pytest.mark.parametrize(
    "change",
    [
        of("settings", seed=7, runs=1, micro_batch_tokens=8, cache_place="memory"),
        of("data", source="/elsewhere/ag_news", notes=["read there"], padding_share=0.5),
        of("data", hash=None),
        of("model", name="/elsewhere/gpt2"),
        of("model", base=None),
        of("environment", devices="1 x gpu"),
        of("model", precision="default", products="TF32"),  # rounds otherwise on another machine
        of_runs(settings=None),
        of_runs(cost=dict.fromkeys(("train_seconds", "compile_seconds"), 3.0)),
    ],
)
def test_what_may_differ_or_is_not_known_is_accepted(change: Change, tmp_path: Path) -> None:
    checked(tmp_path, change)


def test_all_that_differs_is_named_in_one_line(tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        results["settings"] |= {"epochs": 4, "batch_size": 8}
        results["model"]["base"] = "c" * 64

    message = refused(checked, tmp_path, change)
    assert [word for word in ("train.epochs", "train.batch_size", "weights of the body") if word not in message] == []


@pytest.mark.parametrize(("section", "name", "value"), [("model", "dropout", 0.2), ("search", "trials", 5)])
def test_settings_of_the_configuration_are_compared_where_both_have_one(
    section: str, name: str, value: Any, tmp_path: Path
) -> None:
    results = experiment()
    runs = [("full", 42)], [("head", 42)]
    folders = [
        output_folder(tmp_path / "a", results, runs[0]),
        output_folder(tmp_path / "b", results, runs[1], **{section: {name: value}}),
        output_folder(tmp_path / "c", results, runs[1], config=False),
    ]
    a, b, c = map(read_source, folders)
    assert f"--{section}.{name}: " in refused(check_comparable, [a, b])
    check_comparable([a, c])
    check_comparable([b, c])


def test_the_texts_of_predictions_are_compared(tmp_path: Path) -> None:
    results = experiment()
    one = read_source(output_folder(tmp_path / "a", results, [("full", 42)]))
    other = read_source(output_folder(tmp_path / "b", results, [("head", 42)], texts="others"))
    message = refused(check_comparable, [one, other])
    assert "contents of the validation texts" in message
    assert "contents of the test texts" in message
    output_folder(tmp_path / "c", results, [("full", 42), ("full", 43)])
    mixed = tmp_path / "c" / "full" / "seed-43" / "predictions.parquet"
    mixed.write_bytes((tmp_path / "b" / "head" / "seed-42" / "predictions.parquet").read_bytes())
    (mixed.parent / "result.json").unlink()
    assert "full seed 43 was tested on other validation texts" in refused(read_source, tmp_path / "c")


def test_folders_that_keep_no_hash_need_the_same_source(tmp_path: Path) -> None:
    sources = []
    for name in ("builtin", "builtin", "other"):
        results = experiment()
        del results["data"]["hash"]
        results["data"]["source"] = name
        folder = output_folder(tmp_path / str(len(sources)), results)
        for path in folder.rglob("predictions.parquet"):
            path.unlink()
        sources.append(read_source(folder))
    check_comparable(sources[:2])
    assert "data set: builtin and other" in refused(check_comparable, sources)


def test_a_run_that_both_have_must_be_the_same(tmp_path: Path) -> None:
    same = (("full", 42), ("head", 42))
    checked(tmp_path, of_runs(cost={"train_seconds": 1.0}), same)
    other = tmp_path / "another time"
    other.mkdir()

    def change(results: dict[str, Any]) -> None:
        results |= experiment(full=[0.8, 0.8, 0.8], head=HEAD)

    message = refused(checked, other, change, same)
    assert "results of full seed 42, which both have (test accuracy 0.9000 and 0.8000)" in message


def confusion(made: Predictions) -> list[list[int]]:
    test = made.splits["test"]
    return [[int(((test.labels == i) & (test.answers == j)).sum()) for j in (0, 1)] for i in (0, 1)]


def test_a_run_with_other_predictions_is_not_the_same(tmp_path: Path) -> None:
    """The confusion matrix and all scores may be equal by chance."""
    results = experiment()
    folders = [output_folder(tmp_path / name, results) for name in "ab"]
    place = Path("full") / "seed-42" / "predictions.parquet"
    [full] = [run for run in results["runs"] if (run["strategy"], run["seed"]) == ("full", 42)]
    equal = (made for key in range(60) if confusion(made := predictions(0.9, [key])) == full["test_confusion"])
    write_predictions(folders[1] / place, next(equal))
    assert "results of full seed 42" in refused(check_comparable, [read_source(folder) for folder in folders])


def test_another_schema_is_refused(tmp_path: Path) -> None:
    folder = output_folder(tmp_path / "a", experiment())
    content = json.loads((folder / "results.json").read_text()) | {"schema": 2}
    (folder / "results.json").write_text(json.dumps(content))
    assert "schema 2" in refused(read_source, folder)
