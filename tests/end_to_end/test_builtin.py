"""A run that starts from the package's own body works wherever a hub id does, and names no place of this machine."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import flax_agnews as fa
from flax_agnews import export, predict
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.main import main
from flax_agnews.models.pretrained import load_base
from flax_agnews.system.model_names import BUILTIN_FOLDER

TEXTS = ["Shares fell on Tuesday.", "The striker scored twice."]
FLAGS = ("--config", "quickstart", "--strategy", "prompt", "--train.runs", "1", "--train.epochs", "1")
LESS = ("--data.limit_train", "80", "--data.limit_test", "40", "--parallel.devices", "1")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the quickstart with few texts, started beside a directory that is called `builtin` too."""
    folder = tmp_path_factory.mktemp("builtin")
    (folder / "builtin").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*FLAGS, *LESS, "--output", "out"]) == 0
    return folder / "out"


@pytest.fixture
def elsewhere(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, the process in another one."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(output, "moved"))


def test_the_name_is_recorded_and_the_weights_hash(output: Path) -> None:
    assert yaml.safe_load((output / "config.yaml").read_text())["model"]["name"] == "builtin"
    results = json.loads((output / "results.json").read_text())
    assert results["model"]["name"] == "builtin"
    identity = json.loads((output / "prompt" / "seed-42" / "identity.json").read_text())
    assert identity["weights"] == load_base(fa.ModelConfig(name="builtin")).hash
    for file in output.rglob("*"):
        if file.suffix in (".json", ".yaml", ".md", ".csv"):
            assert str(BUILTIN_FOLDER) not in file.read_text(), file
    assert not (output / "base").exists()  # the package has it
    assert "> **The builtin body.**" in (output / "report.md").read_text()


def test_it_resumes_from_another_folder(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, *LESS, "--output", "moved"]) == 0
    assert "1 of 1 runs were done before" in capsys.readouterr().out


def test_it_answers_and_is_measured(elsewhere: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, here = (fa.Classifier.load(place).predict(TEXTS).logits for place in (output, elsewhere))
    np.testing.assert_array_equal(there, here)
    assert predict.main([str(elsewhere), "--text", TEXTS[0]]) == 0
    assert predict.main([str(elsewhere), "--text", TEXTS[0], "--model.name", "builtin"]) == 0
    assert predict.main([str(elsewhere), "--text", TEXTS[0], "--model.name", str(BUILTIN_FOLDER)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == second == third
    Path("labelled.csv").write_text("text,label\nShares fell on Tuesday.,Business\n")
    assert evaluate_main([str(elsewhere), "--data", "labelled.csv"]) == 0


def test_an_export_names_it_but_no_model_of_the_hub(elsewhere: Path) -> None:
    assert export.main([str(elsewhere), "--to", "peft", "adapter"]) == 0
    assert json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "builtin"
    card = Path("adapter/README.md").read_text()
    assert "base_model" not in card.split("---")[1]  # the hub would look for a repository of that name
    assert "began as `builtin` of flax_agnews (3 layers" in card
    assert str(BUILTIN_FOLDER) not in card
    found = BUILTIN_FOLDER.relative_to(Path(fa.__file__).parents[1])
    assert f"It is the folder `{found.as_posix()}` of the package" in card


def test_it_is_described_and_is_a_source_of_sizes() -> None:
    described = fa.describe("head", "builtin")
    body = load_base(fa.ModelConfig(name="builtin"))
    assert described.total == sum(value.size for value in body.parameters.values()) + described.trained
    assert fa.describe("head", fa.ModelConfig(from_config="builtin")) == fa.describe("head", "builtin")


def test_settings_are_printed_with_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--model.name", "builtin", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["name"] == "builtin"
