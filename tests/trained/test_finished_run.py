"""The run that a folder stands for: the best by validation, found from inside, and only a finished one."""

import json
import shutil
from pathlib import Path

import pytest
from support.trained_runs import FULL, loading_refusal

from flax_agnews.trained.classifier import Classifier


def test_an_output_folder_gives_its_best_run_by_validation(copied: Path) -> None:
    for best, accuracy in (("prompt", 0.9), ("full", 0.95)):
        path = copied / best / "seed-42" / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "val_accuracy": [accuracy], "test_accuracy": 0.0}))
        assert Classifier.load(copied).name == f"{best}/seed-42"


def test_a_run_is_found_from_inside_its_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained / FULL)
    assert Classifier.load(".").name == "full/seed-42"


def test_what_is_no_run(trained: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", trained / "full"):
        assert loading_refusal(path) == f"{path}: is neither an output folder nor a run in one (OUTPUT/STRATEGY/seed-K)"


def test_what_is_not_finished(copied: Path) -> None:
    (copied / FULL / "result.json").unlink()
    assert loading_refusal(copied / FULL).startswith(f"{copied / FULL}: isn't finished; run the same command again")
    for path in copied.glob("*/seed-*/result.json"):
        path.unlink()
    assert loading_refusal(copied).startswith(f"{copied}: no run is finished")


def test_a_run_out_of_its_output_folder(copied: Path, tmp_path: Path) -> None:
    moved = shutil.move(copied / FULL, tmp_path / "elsewhere" / "full" / "seed-42")
    assert "has no config.yaml; give a run where it was made" in loading_refusal(Path(moved))
