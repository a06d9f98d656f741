"""What trackers get of a finished comparison, read from the files of the real W&B client and by TensorBoard."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.event_files import assert_events_are_metrics, events_in
from support.small_experiments import ONE_LAYER, results, small
from support.wandb_records import wait_for_end, wandb_records

from flax_agnews.config import Config, ReportConfig, TrackingConfig
from flax_agnews.experiment.outputs import Outputs
from flax_agnews.experiment.publication import publish
from flax_agnews.main import main
from flax_agnews.report.answer import read_answer
from flax_agnews.report.evidence import TITLES
from flax_agnews.report.tables import final_rows
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.references import TFIDF
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.texts_file import TEXTS
from flax_agnews.system.display import Display

STRATEGIES, SEEDS = ("head", "prompt"), (42, 43)
PAGE = "<p>a page</p>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison with TensorBoard on; tests leave it as it is."""
    output = tmp_path_factory.mktemp("publication") / "out"
    flags = ("--strategy", ",".join(STRATEGIES), "--train.runs", 2, "--train.epochs", 1, *ONE_LAYER)
    more = ("--report.reference", "tfidf", "--tracking.tensorboard", "true", "--tracking.wandb", "disabled")
    assert main(small(output, *flags, *more)) == 0
    return output


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it with a page, and a place for what W&B would upload."""
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    (output / "report.html").write_text(PAGE)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    return output


def send(output: Path, texts: str = "all", **tracking: Any) -> None:
    folder = OutputFolder(output)
    report = replace(ReportConfig(), texts=texts)
    config = replace(Config(), tracking=TrackingConfig(wandb="offline", **tracking), report=report)
    publish(Outputs(config, folder, Display()), output / "accuracy_curves.png", STRATEGIES)


def sent(output: Path) -> list[Path]:
    """The files of the comparison's W&B run, one for each time that something was sent."""
    found = list(output.glob("wandb/offline-run-*/run-*.wandb"))
    for path in found:
        wait_for_end(path)
    return found


def tables(output: Path) -> dict[str, list[dict[str, Any]]]:
    """Name of a table that was sent -> its rows, each column -> value."""
    [path] = sent(output)
    media = path.parent / "files" / "media" / "table"
    found = {file.relative_to(media).as_posix().split("_0_")[0]: file for file in media.rglob("*.json")}
    read = {name: json.loads(file.read_text()) for name, file in found.items()}
    return {name: [dict(zip(one["columns"], row, strict=True)) for row in one["data"]] for name, one in read.items()}


def artifacts(output: Path, kind: str) -> Iterator[dict[str, bytes]]:
    """The content of the artifacts of a type that were sent: name of a file -> what is uploaded."""
    for path in sent(output):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "artifact" and record.artifact.type == kind:
                contents = record.artifact.manifest.contents
                yield {one.path: Path(one.local_path).read_bytes() for one in contents}


def test_the_final_table_is_that_of_the_terminal(copied: Path) -> None:
    send(copied)
    rows = tables(copied)["final"]
    shown = final_rows(read_answer(copied, read_results(copied)))
    assert len(rows) == len(STRATEGIES) + 3  # and TF-IDF, the linear probe of `head`, and the majority class
    for row, (rank, name, accuracy, interval, macro_f1, *_) in zip(rows, shown, strict=True):
        assert (row["strategy"], f"{row['accuracy']:.3f}", f"{row['macro_f1']:.3f}") == (name, accuracy, macro_f1)
        assert f"{row['accuracy_low']:.3f}–{row['accuracy_high']:.3f}" == interval
        assert rank.rstrip("=") == str(row["rank"] or "–")
        assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]
    named = {row["strategy"]: row for row in rows}
    for name in STRATEGIES:
        runs = [run for run in results(copied)["runs"] if run["strategy"] == name]
        assert named[name]["accuracy"] == pytest.approx(np.mean([run["test_accuracy"] for run in runs]))
        assert named[name]["loss"] == pytest.approx(np.mean([run["test_loss"] for run in runs]), rel=1e-5)
        seconds = [run["cost"]["train_seconds"] for run in runs]
        assert named[name]["train_seconds"] == pytest.approx(np.mean(seconds))
        assert named[name]["seeds"] == len(SEEDS)
        assert named[name]["trainable_parameters"] == runs[0]["trainable_parameters"]
    about = json.loads((copied / "reference" / "tfidf" / "reference.json").read_text())
    reference = named[TITLES[TFIDF]]
    assert (reference["train_seconds"], reference["seeds"]) == (about["seconds"], None)
    assert reference["trainable_parameters"] == about["parameters"]


def test_every_run_has_a_row(copied: Path) -> None:
    send(copied)
    rows = tables(copied)["results"]
    expected = {(run["strategy"], run["seed"]): run["test_accuracy"] for run in results(copied)["runs"]}
    assert {(row["strategy"], row["seed"]): row["test_accuracy"] for row in rows} == expected


@pytest.mark.parametrize("predictions", [False, True])
def test_the_page_is_an_artifact_with_texts_only_on_request(copied: Path, predictions: bool) -> None:
    send(copied, predictions=predictions)
    [report] = artifacts(copied, "report")
    assert report.keys() == {"report.html", "report.md"}
    assert report["report.md"] == (copied / "report.md").read_bytes()
    assert (report["report.html"] == PAGE.encode()) == predictions
    assert ("This copy of the page was made without texts" in report["report.html"].decode()) != predictions
    assert predictions or not [name for name in tables(copied) if name.startswith("predictions")]


def test_without_a_page_the_rest_is_sent(copied: Path) -> None:
    (copied / "report.html").unlink()
    send(copied)
    [report] = artifacts(copied, "report")
    assert report.keys() == {"report.md"}


@pytest.mark.parametrize("texts", ["all", "none", "removed"])
def test_predictions_are_sent_on_request_with_texts_where_they_may_be_shown(copied: Path, texts: str) -> None:
    kept = pq.read_table(copied / TEXTS).to_pylist()
    if texts == "removed":
        (copied / TEXTS).unlink()
    send(copied, "none" if texts == "none" else "all", predictions=True)
    found, classes = tables(copied), results(copied)["data"]["classes"]
    contents = [row["content"] for row in kept if row["split"] == "test"]
    for name in STRATEGIES:
        expected = []
        for seed in SEEDS:
            path = copied / name / f"seed-{seed}" / "predictions.parquet"
            for row in pq.ParquetFile(path).read().to_pylist():
                if row["split"] == "test":
                    label, chances = row["label"], row["probabilities"]
                    line = {"strategy": name, "seed": seed, "text": row["text"], "label": classes[label]}
                    line |= {"predicted": classes[int(np.argmax(chances))], "probability_of_label": chances[label]}
                    expected.append(line | ({"content": contents[row["text"]]} if texts == "all" else {}))
        assert len(expected) == 2 * len(contents)
        assert found[f"predictions/{name}"] == expected


def test_it_is_sent_once_and_again_with_predictions(copied: Path) -> None:
    for _ in range(2):
        send(copied)
        assert len(sent(copied)) == 1
    for _ in range(2):
        send(copied, predictions=True)
        assert len(sent(copied)) == 2


def test_a_page_that_changed_is_sent_though_the_runs_are_the_same(copied: Path) -> None:
    send(copied)
    (copied / "report.html").write_text("<p>another page</p>")
    for _ in range(2):
        send(copied)
        assert len(sent(copied)) == 2


@pytest.mark.parametrize("before", ["[]", "{", '[["head", 42, 0.5, 0.5, 10]]'])
def test_what_an_earlier_version_noted_is_sent_once_more(copied: Path, before: str) -> None:
    (copied / "wandb").mkdir()
    (copied / "wandb" / "published.json").write_text(before)
    send(copied)
    send(copied)
    assert len(sent(copied)) == 1


def test_tensorboard_has_the_runs_and_the_comparison(finished: Path) -> None:
    """Below the output folder, runs have the names STRATEGY/seed-K."""
    for name in STRATEGIES:
        for seed in SEEDS:
            assert_events_are_metrics(finished, name, seed)
    events = events_in(finished)
    assert events.Tags()["scalars"] == []
    [picture] = events.Images("accuracy_curves")
    assert picture.encoded_image_string == (finished / "accuracy_curves.png").read_bytes()
    [text] = events.Tensors("final")[0].tensor_proto.string_val
    names = [row[1] for row in final_rows(read_answer(finished, read_results(finished)))]
    assert [line.split(" | ")[1] for line in text.decode().splitlines()[2:]] == names
    assert events.Tags()["tensors"] == ["final", "results"]


def test_starting_over_removes_our_event_files_only(copied: Path) -> None:
    others = [copied / "events.out.tfevents.1.host", copied / "head" / "seed-42" / "events.out.tfevents.1.host"]
    for path in others:
        path.write_bytes(b"")
    assert len(list(copied.rglob("events.out.tfevents.*"))) == len(others) + 1 + len(STRATEGIES) * len(SEEDS)
    folder = OutputFolder(copied)
    folder.claim(folder.config, overwrite=True)
    folder.lock.release()
    assert sorted(copied.rglob("events.out.tfevents.*")) == sorted(others)
