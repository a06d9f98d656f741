"""Runs spread over four devices, against the same runs one after the other on one device (contract 15)."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny
from support.small_experiments import ONE_LAYER, best_weights, results, small, without_cost

from flax_agnews.experiment import progress
from flax_agnews.main import main

ORIGINALS, SEEDS, PER_EPOCH = ("full", "prompt", "partial"), (42, 43), 9  # 72 texts that train
FLAGS = ("--strategy", ",".join(ORIGINALS), "--train.runs", len(SEEDS), "--train.batch_size", 8, *ONE_LAYER)
SECONDS = 120  # until a busy machine has compiled
RUNS = [(name, seed) for name in ORIGINALS for seed in SEEDS]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("in_turn") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


def assert_same(output: Path, reference: Path, runs: list[tuple[str, int]]) -> None:
    """Every metric, every prediction and every result; times and memory apart."""
    assert without_cost(results(output)) == without_cost(results(reference))
    for name, seed in runs:
        for file in ("metrics.jsonl", "predictions.parquet"):
            place = Path(name) / f"seed-{seed}" / file
            assert (output / place).read_bytes() == (reference / place).read_bytes()


def test_spread_runs_have_the_bytes_of_runs_in_turn(
    in_turn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads, note = set[str](), progress.RunsObserver.epoch

    def epoch(*arguments: Any) -> None:
        threads.add(threading.current_thread().name)
        note(*arguments)

    monkeypatch.setattr(progress.RunsObserver, "epoch", epoch)
    output = tmp_path / "out"
    assert main(small(output, *FLAGS, "--parallel.devices", 4)) == 0
    assert "4 x CPU, a run on each" in capsys.readouterr().out
    assert len(threads) > 1
    assert_same(output, in_turn, RUNS)
    ours, theirs = (best_weights(folder / "full" / "seed-43") for folder in (output, in_turn))
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def test_a_signal_stops_and_saves_all_and_fewer_devices_go_on(
    in_turn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGINT comes when each of the four runs under way has made two updates."""
    meeting, move = threading.Barrier(4), progress.RunsObserver.step

    def step(self: progress.RunsObserver, done: float, speed: float) -> None:
        move(self, done, speed)
        if round(done * PER_EPOCH) == 2:
            if meeting.wait(SECONDS) == 0:
                os.kill(os.getpid(), signal.SIGINT)
            while not self.interrupt.asked:  # the main thread takes the signal
                time.sleep(0.01)

    output = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.RunsObserver, "step", step)
        assert main(small(output, *FLAGS, "--parallel.devices", 4)) == 130
    last = capsys.readouterr().out.splitlines()[-1]
    begun = [f"saved at {name}/seed-{seed}, step " for name, seed in RUNS[:4]]
    assert all(place in last for place in begun)
    assert not any((output / name / f"seed-{seed}" / "result.json").exists() for name, seed in RUNS)

    assert main(small(output, *FLAGS, "--parallel.devices", 2)) == 0
    assert capsys.readouterr().out.count("goes on at step") == 4
    assert_same(output, in_turn, RUNS)


def test_runs_without_finite_numbers_leave_the_others(
    in_turn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ("--parallel.devices", 4, "--partial.learning_rate", 1e30)
    assert main(small(output, *FLAGS, *flags)) == 1
    found = results(output)
    assert [fault.split(" at ")[0].split(" after ")[0] for fault in found["diverged"]] == [
        "partial seed 42",
        "partial seed 43",
    ]
    rest = [run for run in without_cost(results(in_turn))["runs"] if run["strategy"] != "partial"]
    assert without_cost(found)["runs"] == rest


@pytest.mark.long
def test_every_strategy_has_the_same_bytes_spread(tmp_path: Path) -> None:
    flags = ("--strategy", "every", "--train.runs", 1, "--train.batch_size", 8)
    for devices in (1, 4):
        assert main(small(tmp_path / str(devices), *flags, "--parallel.devices", devices)) == 0
    assert_same(tmp_path / "4", tmp_path / "1", [(name, 42) for name in tiny.STRATEGIES])
