"""Checkpoints that hang or fail in a comparison: it goes on or stops as the settings say, with the same results."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.experiments import SECONDS
from support.hanging import Pipes
from support.small_experiments import results, small, without_cost

from flax_agnews.main import main

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--strategy", "full", "--train.runs", 1, "--train.batch_size", 4, "--train.epochs", 2)
FLAGS += ("--data.limit_train", 400, "--checkpoint.every_steps", 20, "--pretrain.epochs", 1)
FLAGS += ("--pretrain.batch_size", 4)
DRAFTS = {"pretrain": "pretrain/*/.step-*.draft", "full": "full/seed-42/checkpoints/.step-*.draft"}
HANGS = "could not be saved (nothing was written for 2 s: the disk may be full, or gone)"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled programs and tokens; what was adapted is removed."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    out, err = _start(output, cache).communicate(timeout=SECONDS)
    assert results(output), out + err
    return output


def _start(output: Path, cache: Path, *flags: object) -> "subprocess.Popen[str]":
    """The command, with a patience of two seconds."""
    shutil.rmtree(cache / "adapted", ignore_errors=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "hanging.py"), "2", *small(output, *FLAGS, *flags)],
        env=os.environ | {"FLAX_AGNEWS_CACHE": str(cache), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _assert_same(output: Path, reference: Path) -> None:
    """Every metric, and nothing half-done left."""
    assert without_cost(results(output)) == without_cost(results(reference))
    metrics = "full/seed-42/metrics.jsonl"
    assert (output / metrics).read_bytes() == (reference / metrics).read_bytes()


@pytest.mark.parametrize("where", DRAFTS)
def test_a_save_that_hangs_is_reported_and_training_goes_on(
    undisturbed: Path, cache: Path, tmp_path: Path, where: str
) -> None:
    output = tmp_path / "out"
    with Pipes(output, DRAFTS[where]) as pipes:
        process = _start(output, cache)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out + err
        assert len(pipes.caught) == 1
        [line] = [line for line in out.splitlines() if "could not be saved" in line]
        assert HANGS + "; goes on, with the saves that there are" in line
        assert line.startswith(where + ": ")
    assert "Traceback" not in out + err
    _assert_same(output, undisturbed)
    assert main(small(output, *FLAGS)) == 0  # finds it finished, and sweeps
    assert [path.name for path in output.rglob(".*.draft")] == []


@pytest.mark.parametrize("where", DRAFTS)
def test_a_save_that_hangs_stops_training_where_the_settings_say_so(
    undisturbed: Path, cache: Path, tmp_path: Path, where: str
) -> None:
    output = tmp_path / "out"
    with Pipes(output, DRAFTS[where]) as pipes:
        process = _start(output, cache, "--checkpoint.on_failure", "stop")
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 2, out + err
        assert len(pipes.caught) == 1
    [line] = err.splitlines()
    assert line.startswith(f"error: {where}: ")
    assert f"{HANGS}, and --checkpoint.on_failure is stop. Other saves stay" in line
    out, err = _start(output, cache, "--checkpoint.on_failure", "stop").communicate(timeout=SECONDS)
    _assert_same(output, undisturbed)
    assert [path.name for path in output.rglob(".*.draft")] == []


def test_an_interrupt_while_a_save_hangs_saves_beside_it(undisturbed: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with Pipes(output, DRAFTS["full"]) as pipes:
        process = _start(output, cache)
        end = time.monotonic() + SECONDS
        while not pipes.caught:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 130, out + err
    [step] = re.findall(r"^saved at full/seed-42, step (\d+); run the same command to go on$", out, re.M)
    out, err = _start(output, cache).communicate(timeout=SECONDS)
    assert f"goes on at step {step}" in out
    _assert_same(output, undisturbed)


def test_saves_that_fail_stop_training_where_the_settings_say_so(
    undisturbed: Path, cache: Path, tmp_path: Path
) -> None:
    """In language modelling, then in a run. A file where a folder should be: a real error of the system."""
    output = tmp_path / "out"
    for place, where in (("pretrain", "pretrain: language modelling"), ("full/seed-42/checkpoints", "full: step 20")):
        (output / place).parent.mkdir(parents=True, exist_ok=True)
        (output / place).write_text("in the way")
        process = _start(output, cache, "--checkpoint.on_failure", "stop")
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 2, out + err
        [line] = err.splitlines()
        assert re.fullmatch(f"error: {where} could not be saved \\(.*\\), and --checkpoint.on_failure is stop.*", line)
        (output / place).unlink()
    out, err = _start(output, cache).communicate(timeout=SECONDS)
    _assert_same(output, undisturbed)
