"""Experiments that are stopped by real signals, or killed, end with the results of undisturbed ones."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optax
import pytest
from support.small_experiments import ONE_LAYER, best_weights, results, small, start, without_cost

from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.strategies import Strategy
from flax_agnews.strategies.optim import Plan

# Many tiny updates an epoch, so that a signal meets a run in the middle of one. `full` keeps every sort of state.
FLAGS = ("--strategy", "full", "--train.runs", 1, "--train.batch_size", 2, "--data.limit_train", 400, *ONE_LAYER)
PER_EPOCH = 180  # 360 texts that train
RUN = Path("full") / "seed-42"
SECONDS = 120  # until a busy machine has imported and compiled


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


def _lines(output: Path, kind: str) -> int:
    path = output / RUN / "metrics.jsonl"
    return path.read_text().count(f'{{"{kind}"') if path.exists() else 0


def _wait(process: "subprocess.Popen[str]", until: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def _assert_same(output: Path, reference: Path) -> None:
    """Every metric, every prediction and every byte of the best weights; times apart."""
    assert without_cost(results(output)) == without_cost(results(reference))
    first, second = (json.loads((folder / RUN / "result.json").read_text()) for folder in (output, reference))
    assert without_cost(first) == without_cost(second)
    for name in ("metrics.jsonl", "predictions.parquet"):
        assert (output / RUN / name).read_bytes() == (reference / RUN / name).read_bytes()
    ours, theirs = best_weights(output / RUN), best_weights(reference / RUN)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def _assert_damage_is_told(output: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stopped run none of whose states is sound says so, starts over, and ends alike."""
    states = list((output / RUN / "checkpoints").glob("step-*"))
    assert states
    for state in states:
        victim = next(path for path in state.rglob("*") if path.is_file() and path.stat().st_size > 1000)
        victim.write_bytes(victim.read_bytes()[:100])
    assert main(small(output, *FLAGS)) == 0
    out = capsys.readouterr().out
    assert all(f"{state.name}: damaged, " in out for state in states)
    assert "set aside as" in out
    assert "goes on at" not in out
    _assert_same(output, reference)


@pytest.mark.parametrize(("number", "epoch", "code"), [(signal.SIGINT, 0, 130), (signal.SIGTERM, 1, 143)], ids=str)
def test_a_signal_in_the_middle_of_an_epoch(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, epoch: int, code: int
) -> None:
    output = tmp_path / "out"
    process = start(small(output, *FLAGS))
    _wait(process, lambda: _lines(output, "step") > epoch * PER_EPOCH)
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert "Traceback" not in out + err
    steps = _lines(output, "step")
    assert epoch * PER_EPOCH < steps < (epoch + 1) * PER_EPOCH
    assert out.splitlines()[-1] == f"saved at full/seed-42, step {steps}; run the same command to go on"
    assert not (output / RUN / "result.json").exists()

    if number == signal.SIGINT:
        _assert_damage_is_told(Path(shutil.copytree(output, tmp_path / "damaged")), uninterrupted, capsys)
        capsys.readouterr()

    assert main(small(output, *FLAGS)) == 0
    assert f"full seed 42: goes on at step {steps}" in capsys.readouterr().out
    _assert_same(output, uninterrupted)


def test_killed_after_the_first_epoch(uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL gives no time to save: the run goes on from what it saved before, and forgets the lines after it."""
    output, flags = tmp_path / "out", (*FLAGS, "--checkpoint.every_steps", 50)
    process = start(small(output, *flags))
    _wait(process, lambda: _lines(output, "step") > PER_EPOCH + 60)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL
    steps = _lines(output, "step")
    assert PER_EPOCH + 60 < steps < 2 * PER_EPOCH
    assert main(small(output, *FLAGS)) == 0
    [step] = re.findall(r"full seed 42: goes on at step (\d+)", capsys.readouterr().out)
    assert int(step) % 50 == 0
    assert steps - 110 < int(step) <= steps  # the last save may not have been over
    _assert_same(output, uninterrupted)


def test_a_signal_in_language_modelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The adapted body, and all that follows from it, as without."""
    flags = (*FLAGS, "--train.epochs", 1, "--train.batch_size", 16, "--pretrain.epochs", 4, "--pretrain.batch_size", 2)
    for name in ("whole", "parts"):
        with pytest.MonkeyPatch.context() as patch:  # neither finds in the cache what the other has adapted
            patch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / f"cache-{name}"))
            output = tmp_path / name
            if name == "parts":
                process = start(small(output, *flags))
                _wait(process, lambda: bool(list((tmp_path / "parts").glob("pretrain/*/step-*"))))
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=SECONDS)
                assert process.returncode == 143, out + err
                [step] = re.findall(r"saved in language modelling, step (\d+); run the same command to go on", out)
                assert 1 <= int(step) < 4 * PER_EPOCH
                capsys.readouterr()
            assert main(small(output, *flags)) == 0
    assert f"pretrain: goes on at step {step}" in capsys.readouterr().out
    _assert_same(tmp_path / "parts", tmp_path / "whole")
    body = "base/model.safetensors"
    assert (tmp_path / "parts" / body).read_bytes() == (tmp_path / "whole" / body).read_bytes()
    assert not (tmp_path / "parts" / "pretrain").exists()


def test_what_was_finished_is_not_run_again(uninterrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (uninterrupted / RUN / "metrics.jsonl").stat().st_mtime_ns
    assert main(small(uninterrupted, *FLAGS)) == 0
    assert "1 of 1 runs were done before" in capsys.readouterr().out
    assert (uninterrupted / RUN / "metrics.jsonl").stat().st_mtime_ns == before


# --- an edited strategy


def _rate(plan: Plan) -> optax.GradientTransformation:
    return plan.adamw(1e-3)


def _config(output: Path) -> Config:
    return arguments.parse(small(output, "--strategy", "full")).config


def test_an_edited_strategy_neither_resumes_nor_passes_for_the_one_that_ran(tmp_path: Path) -> None:
    output = tmp_path / "out"
    Experiment(_config(output), [Strategy.by_pattern("mine", {".*": _rate})]).run()
    assert [run["strategy"] for run in results(output)["runs"]] == ["mine", "mine"]
    edited = Strategy.by_pattern("mine", {"/wte/": "frozen", ".*": _rate})
    with pytest.raises(UserError, match=r"begun with other strategy.*overwrite") as caught:
        Experiment(_config(output), [edited]).run()
    assert str(output / "mine" / "seed-42") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    (output / "mine" / "seed-42" / "result.json").unlink()  # begun, not finished
    with pytest.raises(UserError, match="begun with other strategy"):
        Experiment(_config(output), [edited]).run()
