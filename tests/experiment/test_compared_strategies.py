"""A script's own strategies in an experiment: how its files name them; the caller's settings stay as they are."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.small_experiments import ONE_LAYER, head_only, results, settings, small

from flax_agnews.cli import arguments as cli
from flax_agnews.cli.compare import compare
from flax_agnews.config import Config
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.report.answer import answer
from flax_agnews.report.page import markdown_page
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.result_files import read_results
from flax_agnews.strategies import REGISTRY
from flax_agnews.trained.classifier import Classifier

FLAGS = ("--train.runs", 1, "--train.epochs", 1, *ONE_LAYER)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings that name no strategy, as a script makes them."""
    config = cli.parse(small(tmp_path_factory.mktemp("own") / "out", *FLAGS)).config
    config.strategy, config.strategies = "all", {}
    return config


@pytest.fixture(scope="module")
def finished(asked: Config) -> Path:
    before = copy.deepcopy(asked)
    compare(asked, [head_only(), REGISTRY["head"]])
    assert asked == before
    return Path(asked.output)


def test_the_folder_names_what_ran(finished: Path) -> None:
    written = settings(finished)
    assert written["strategy"] == "mine,head"
    assert written["custom"] == ["mine"]
    assert written["head"] == {"learning_rate": REGISTRY["head"].settings().learning_rate}
    assert OutputFolder(finished).config.custom == ["mine"]
    assert [(run["strategy"], run.get("custom", False)) for run in results(finished)["runs"]] == [
        ("mine", True),
        ("head", False),
    ]


def test_the_page_says_which_command_runs_what_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (finished / "report.md").read_text()
    [command] = [line for line in page.splitlines() if line.startswith("python -m flax_agnews.main ")]
    assert "mine is a strategy of a script that uses the library: run that script again" in page
    arguments = command.split()[3:]
    arguments[arguments.index("config.yaml")] = str(finished / "config.yaml")
    assert main(arguments) == 0
    assert "1 of 1 runs were done before" in capsys.readouterr().out
    assert settings(finished)["custom"] == ["mine"]  # still
    assert "mine is a strategy of a script" in (finished / "report.md").read_text()


def test_the_page_of_a_script_alone_gives_no_command(finished: Path) -> None:
    all_runs = read_results(finished)
    alone = replace(all_runs, runs=[run for run in all_runs.runs if run.strategy == "mine"])
    assert "python -m" not in markdown_page(answer(alone))
    assert "mine is a strategy of a script" in markdown_page(answer(alone))


def test_the_command_doesnt_know_a_scripts_strategy(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(finished / "config.yaml")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--strategy mine,head: mine is a strategy of a script that uses the library; run that script again" in line
    assert "or choose --strategy head" in line


def test_a_script_strategy_under_a_registered_name_isnt_taken_for_it(finished: Path, tmp_path: Path) -> None:
    config = cli.parse(small(tmp_path / "out", *FLAGS)).config
    own = head_only()
    Experiment(config, [type(own)("head", own.label, own.transforms)]).run()
    assert settings(tmp_path / "out")["custom"] == ["head"]
    with pytest.raises(UserError, match=r"head is no registered strategy; pass it"):
        Classifier.load(tmp_path / "out")


# --- nothing is computed before it runs


def test_making_an_experiment_computes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    flags = ("--strategy", "head", *FLAGS, "--pretrain.epochs", 1)
    request = cli.parse(small(tmp_path / "out", *flags))
    with Experiment(request.config, request.entries) as experiment:
        assert experiment.adaptation is None
        assert not (tmp_path / "cache" / "adapted").exists()
        first = experiment.base.hash
        program = experiment.compile(experiment.setups[0])  # needs the adapted body, so it is made
        assert experiment.adaptation is not None
        assert program.setup.model.base.hash == experiment.base.hash == experiment.adaptation.hash != first
        assert [setup.model.base.hash for setup in experiment.setups] == [experiment.base.hash]
    found = Experiment(request.config, request.entries).run()
    assert found.pretrain.loss == experiment.adaptation.loss
    identity = json.loads((tmp_path / "out" / "head" / "seed-42" / "identity.json").read_text())
    assert identity["weights"] == experiment.adaptation.hash
