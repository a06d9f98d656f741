"""An output folder of version 0.1, from before the package's folders: it resumes, reports, predicts and exports.

The archive holds a comparison of `partial` and `lora` (two seeds, language modelling and a search for rates first) that
was stopped in its last run, and `undisturbed.json`: the results of the same command without the stop.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from support.small_experiments import twice_optimized

from flax_agnews import export, predict
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.report import __main__ as report
from flax_agnews.report.frames import load_results
from flax_agnews.trained.classifier import Classifier

ARCHIVE = Path(__file__).with_name("folder_of_version_0_1.tar.gz")
ROUNDING = 1e-3
"""Relative: another processor's last digits, after 18 updates of a model whose losses are near ln 5."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it was left, on one device, as then: the tests simulate four."""
    place = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place, filter="data")
    settings = place / "run" / "config.yaml"
    text = settings.read_text().replace("/made/before", str(place))
    settings.write_text(text.replace("devices: null", "devices: 1"))
    return place / "run"


@pytest.fixture(scope="module")
def finished(stopped: Path) -> Path:
    """The folder after the same command has gone on, and was given once more; what it printed is beside it."""
    (stopped.parent / "printed.txt").write_text(twice_optimized(["--config", "run/config.yaml"], stopped.parent))
    return stopped


def test_the_stopped_run_resumes_to_the_undisturbed_results(finished: Path) -> None:
    ours = json.loads((finished / "results.json").read_text())
    theirs = json.loads((finished.parent / "undisturbed.json").read_text())
    for name, searched in theirs["search"].items():
        assert ours["search"][name]["trials"] == searched["trials"]
    assert len(ours["runs"]) == len(theirs["runs"]) == 4
    for run, expected in zip(ours["runs"], theirs["runs"], strict=True):
        assert run.keys() == expected.keys()
        for name in expected.keys() - {"cost"}:
            wanted, found = expected[name], run[name]
            if "loss" in name:
                np.testing.assert_allclose(found, wanted, rtol=ROUNDING)
            elif name != "settings":
                assert found == wanted, name
    assert "4 of 4 runs were done before" in (finished.parent / "printed.txt").read_text()


def test_it_resumed_from_its_checkpoint(finished: Path) -> None:
    """The first updates of the stopped run weren't computed again: its metrics hold each update once."""
    lines = [json.loads(line) for line in (finished / "lora" / "seed-43" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "step" in line] == list(range(1, 19))


def test_runs_that_were_finished_then_have_no_predictions(finished: Path) -> None:
    kept = {path.parent.relative_to(finished).as_posix() for path in finished.glob("*/seed-*/predictions.parquet")}
    assert kept == {"lora/seed-43"}  # the run that was stopped
    frame = load_results(finished).predictions
    assert set(zip(frame["strategy"], frame["seed"], strict=True)) == {("lora", 43)}


def test_it_reports(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "report.md").unlink()
    assert report.main([str(finished)]) == 0
    assert "lora" in (finished / "report.md").read_text()


def test_it_predicts_and_evaluates(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished / "partial" / "seed-42"
    assert predict.main([str(run), "--text", "goal match"]) == 0
    assert capsys.readouterr().out.strip()
    scores = finished.parent / "scores.json"
    assert evaluate_main([str(run), "--data", str(finished.parent / "data" / "test.csv"), "--json", str(scores)]) == 0
    recorded = json.loads((run / "result.json").read_text())["test_accuracy"]
    assert json.loads(scores.read_text())["accuracy"] == pytest.approx(recorded)


@pytest.mark.parametrize("run", ["partial/seed-42", "lora/seed-43"])
def test_it_exports(finished: Path, run: str, tmp_path: Path) -> None:
    """Export compares the logits of what it wrote with the run's, before it keeps anything."""
    assert export.main([str(finished / run), "--to", "hf", str(tmp_path / "hf")]) == 0
    assert (tmp_path / "hf" / "model.safetensors").exists()
    assert Classifier.load(finished / run).classes == list("12345")
