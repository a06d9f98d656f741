"""An output folder's runs stay inside it, and results or identities that aren't a run's own are ignored."""

import json
from pathlib import Path

import numpy as np
import optax
import pytest
import yaml
from support.refusals import refused
from support.report_results import make
from support.small_experiments import settings

from flax_agnews.config import Config, ModelConfig, ReportConfig, TrainConfig
from flax_agnews.runs.merged_file import MergedFile, write_merged_file
from flax_agnews.runs.output_folder import OutputFolder, config_dict
from flax_agnews.runs.predictions import Predictions, SplitPredictions
from flax_agnews.runs.result_files import run_from
from flax_agnews.runs.results import json_of
from flax_agnews.strategies import Strategy


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".", ".x", "", "a\\b", "a\0", "a\nb", "\x1b[2J", "x/"])
def test_a_strategy_whose_name_is_no_folders(name: str) -> None:
    message = refused(Strategy.by_pattern, name, {".*": optax.sgd(1.0)})
    assert message.startswith("strategy ")
    assert "without /" in message


@pytest.mark.parametrize("name", ["mine", "language modelling", "lora-8 (all)", "präfix", "$x$", "a..b", "[red]"])
def test_a_strategy_s_folder_is_in_the_output_folder(name: str, tmp_path: Path) -> None:
    strategy = Strategy.by_pattern(name, {".*": optax.sgd(1.0)})
    run = OutputFolder(tmp_path / "out").run(strategy.name, 42)
    run.claim({"strategy": "x"})
    assert [path.parent.parent.name for path in tmp_path.rglob("identity.json")] == [name]
    assert run.path.resolve().parents[1] == (tmp_path / "out").resolve()


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_experiment_goes_on_in_a_folder_of_merged_results(overwrite: bool, tmp_path: Path) -> None:
    write_merged_file(tmp_path, MergedFile(folders=["one", "other"]))
    message = refused(OutputFolder(tmp_path).check, Config(), overwrite)
    assert message.startswith(f"--output {tmp_path}: holds merged results (merged.yaml)")
    assert "name a new folder, or one of those that were merged" in message
    assert not (tmp_path / "config.yaml").exists()


FOREIGN = {
    "another strategy": {"strategy": "../../x"},
    "another seed": {"seed": "42/../../x"},
    "a text for a number": {"test_accuracy": "0.9"},
    "a list for a number": {"cost": {"train_seconds": [1]}},
    "no cost": {"cost": None},
}


@pytest.mark.parametrize("what", [*FOREIGN, "a list", "a number", "too deep"])
def test_a_result_of_another_run_is_none(what: str, tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    run = folder.run("full", 42)
    run.claim({"strategy": "x"})
    good = make({"full": [0.9]})["runs"][0]
    path = run.path / "result.json"
    path.write_text(json.dumps(good))
    assert [json_of(run) for run in folder.finished(["full"])] == [good]
    bad = {"a list": "[1]", "a number": "7", "too deep": "[" * 10**5}
    path.write_text(bad.get(what) or json.dumps({**good, **FOREIGN[what]}))
    assert str(path) in refused(folder.finished, ["full"])


def test_another_precision_is_another_configuration(tmp_path: Path) -> None:
    """A folder from before there was a choice has the backend's default."""
    folder, exact = OutputFolder(tmp_path), Config(model=ModelConfig(precision="highest"))
    folder.claim(Config())
    path = tmp_path / "config.yaml"
    content = yaml.safe_load(path.read_text())
    del content["model"]["precision"]
    path.write_text(yaml.safe_dump(content))
    assert folder.config.model.precision == "default"
    folder.check(Config())
    assert "model.precision was default, now highest" in refused(folder.check, exact)


def test_a_run_whose_predictions_cant_be_written_is_not_finished(tmp_path: Path) -> None:
    run = OutputFolder(tmp_path).run("full", 42)
    (run.path / "predictions.parquet").mkdir(parents=True)
    result = run_from(make({"full": [0.9]})["runs"][0])
    split = SplitPredictions("", np.array([0, 1]), np.full((2, 2), 0.5, np.float32))
    assert "predictions.parquet: cannot be written" in refused(
        run.write, result, Predictions(["a", "b"], {"test": split})
    )
    assert run.result is None


@pytest.mark.parametrize("content", ["[]", "7", '"x"', "{}", '{"strategy": ["x"]}'])
def test_an_identity_that_is_none_is_another(content: str, tmp_path: Path) -> None:
    run = OutputFolder(tmp_path).run("full", 42)
    run.claim({"strategy": "x"})
    (run.path / "identity.json").write_text(content)
    assert "was begun with other strategy" in refused(run.claim, {"strategy": "x"})


def test_the_settings_of_a_folder_are_those_that_were_written(trained: Path) -> None:
    config = OutputFolder(trained).config
    assert config_dict(config) == settings(trained)
    assert config.train.epochs == 1


def test_a_folder_keeps_its_number_of_shapes(tmp_path: Path) -> None:
    """Earlier versions wrote a number, by default 6: `auto` follows it, and another number is refused."""
    before, auto, other = (Config(train=TrainConfig(shapes=shapes)) for shapes in (6, "auto", 2))
    folder = OutputFolder(tmp_path / "out")
    folder.claim(before)
    folder.lock.release()
    assert folder.check(auto).train.shapes == 6
    assert folder.check(auto, overwrite=True).train.shapes == "auto"
    assert "train.shapes was 6, now 2" in refused(folder.check, other)


def test_a_folder_may_get_another_report(tmp_path: Path) -> None:
    """A folder of an earlier version, without that section, too."""
    folder, changed = OutputFolder(tmp_path / "out"), Config(report=ReportConfig(reference="none", texts="none"))
    folder.claim(Config())
    folder.lock.release()
    assert folder.check(changed) == changed
    file = folder.path / "config.yaml"
    sections = yaml.safe_load(file.read_text())
    del sections["report"]
    file.write_text(yaml.safe_dump(sections))
    assert folder.check(changed) == changed
    assert folder.config.report == ReportConfig()


def test_a_folder_whose_shapes_were_chosen_takes_no_number(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.claim(Config())
    folder.lock.release()
    assert folder.check(Config()).train.shapes == "auto" == folder.config.train.shapes
    assert "train.shapes was auto, now 6" in refused(folder.check, Config(train=TrainConfig(shapes=6)))
