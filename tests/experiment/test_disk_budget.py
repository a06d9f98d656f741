"""The disk space of a comparison is estimated before it starts, and kept small afterwards."""

import json
import shutil
from pathlib import Path

import pytest
from support.small_experiments import ONE_LAYER, results, small

from flax_agnews.cli import arguments
from flax_agnews.experiment import disk_budget
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.training.state import Setup

FLAGS = ("--strategy", "full,prompt", "--train.runs", 2, "--train.epochs", 1, *ONE_LAYER)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _state_bytes(setup: Setup) -> int:
    return 4 * setup.trainable_parameters + setup.optimizer_bytes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("disk") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


def test_the_estimate_is_above_what_is_taken_and_not_far_above_what_stays(finished: Path, tmp_path: Path) -> None:
    """What stays is counted on the disk; files of a few bytes each beside the arrays are the rest of the difference."""
    request = arguments.parse(small(tmp_path / "out", *FLAGS))
    with Experiment(request.config, request.entries) as experiment:
        estimated = disk_budget.need(experiment.config, experiment.setups)
        state = _state_bytes(experiment.setups[0])
    stays = _bytes(finished / "base") + sum(_bytes(path) for path in finished.glob("*/*/checkpoints"))
    weights = 4 * max(run["trainable_parameters"] for run in results(finished)["runs"])
    assert state >= 3 * weights  # and two moments
    assert estimated >= stays + 3 * state - 200_000
    assert estimated <= stays + 3 * (state + weights) + 1000


def test_without_checkpoints_the_body_alone_takes_room(tmp_path: Path) -> None:
    request = arguments.parse(small(tmp_path / "out", *FLAGS, "--checkpoint.enabled", "false"))
    with Experiment(request.config, request.entries) as experiment:
        body = 4 * sum(value.size for value in experiment.base.parameters.values())
        assert disk_budget.need(experiment.config, experiment.setups) == body


def test_a_limit_below_the_estimate_is_refused_before_anything_is_computed(tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    assert main(small(output, *FLAGS, "--checkpoint.gigabytes", "1e-5")) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --checkpoint.gigabytes 1e-05: weights and states take up to ")
    assert not output.exists()


def test_a_limit_too_low_for_last_states_drops_these_and_refuses_nothing(tmp_path: Path, capsys) -> None:
    request = arguments.parse(small(tmp_path / "sized", *FLAGS))
    with Experiment(request.config, request.entries) as experiment:
        least, most = (disk_budget.need(experiment.config, experiment.setups, final=final) for final in (False, True))
    state, prompt = map(_state_bytes, experiment.setups)
    assert most - least == 2 * (state + prompt)  # of two seeds each
    output = tmp_path / "out"
    assert main(small(output, *FLAGS, "--checkpoint.gigabytes", f"{(least + most) / 2e9:.9f}")) == 0
    assert "no room for the last states" in capsys.readouterr().out
    assert not list(output.glob("*/*/checkpoints/step-*"))
    assert len(list(output.glob("*/*/checkpoints/best-epoch-*"))) == 4


@pytest.mark.parametrize(("keep", "stay"), [("run", 4), ("strategy", 2), ("all", 1)])
def test_the_best_weights_that_stay_are_chosen_by_validation_accuracy(
    finished: Path, tmp_path: Path, keep: str, stay: int
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    runs = results(output)["runs"]
    for place, run in enumerate(runs):  # so that the best is not the first
        path = output / run["strategy"] / f"seed-{run['seed']}" / "result.json"
        path.write_text(json.dumps({**run, "val_accuracy": [place / 10], "test_accuracy": 1 - place / 10}))
    request = arguments.parse(small(output, *FLAGS))
    with Experiment(request.config, request.entries) as experiment:
        disk_budget.drop_weights(experiment.folder, keep)
    left = sorted(str(path.parent.relative_to(output)) for path in output.glob("*/*/checkpoints"))
    every = ["full/seed-42", "full/seed-43", "prompt/seed-42", "prompt/seed-43"]
    assert left == {4: every, 2: [every[1], every[3]], 1: [every[3]]}[stay]


def test_a_comparison_that_keeps_one_of_all(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(small(output, *FLAGS, "--checkpoint.keep_best", "all")) == 0
    assert len(list(output.glob("*/*/checkpoints"))) == 1
    runs = [{k: v for k, v in run.items() if k != "cost"} for run in results(output)["runs"]]
    assert runs == [{k: v for k, v in run.items() if k != "cost"} for run in results(finished)["runs"]]
    assert main(small(output, *FLAGS, "--checkpoint.keep_best", "all")) == 0  # nothing is trained for lost weights
