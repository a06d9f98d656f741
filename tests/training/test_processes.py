"""Several processes train as one: the same numbers, one set of files, one stop, and no waiting for a lost one."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import several_processes, tiny
from support.bounds import BOUNDS, assert_same_leaves, assert_same_losses
from support.kept_predictions import assert_scores_of_predictions
from support.several_processes import ENVIRONMENT, SECONDS, address, commands, course, ended, numbered, wait
from support.small_experiments import (
    ONE_LAYER,
    best_weights,
    metrics,
    results,
    settings,
    small,
    start,
    without_cost,
)

from flax_agnews.main import main

STRATEGIES = ("full", "prompt")  # one that adds nothing, one that makes something of the shared weights

# Many tiny updates an epoch, so that a signal meets a run in the middle of one. `full` keeps every sort of state.
FLAGS = ("--strategy", "full", "--train.runs", 1, "--train.batch_size", 8, "--data.limit_train", 160, *ONE_LAYER)
PER_EPOCH = 18  # 144 texts that train
RUN = Path("full") / "seed-42"


def _lines(output: Path) -> int:
    """Updates in the metrics file."""
    path = output / RUN / "metrics.jsonl"
    return path.read_text().count('{"step"') if path.exists() else 0


def _both(output: Path) -> list[list[str]]:
    return [small(output, *FLAGS, "--parallel.devices", 2)] * 2


def _files(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def _numbers(value: Any, name: str = "") -> dict[str, Any]:
    """Every number and word of nested JSON, by its place."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: leaf for key, item in inner for place, leaf in _numbers(item, f"{name}.{key}").items()}
    return {name: value}


# --- contract 7


def test_two_processes_give_one_devices_gradients_and_losses(tmp_path: Path) -> None:
    where, names = address(), ",".join(STRATEGIES)
    command = [sys.executable, several_processes.__file__, where]
    started = [
        subprocess.Popen(
            [*command, str(number), names, str(tmp_path)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    expected = {name: course(name, tiny.devices(1)) for name in STRATEGIES}  # meanwhile
    try:
        for process in started:
            _, err = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, err
    finally:
        for process in started:
            process.kill()
    for name in STRATEGIES:
        gradients, losses = expected[name]
        for number in range(2):
            path = tmp_path / f"{name}-{number}"
            assert_same_leaves(dict(np.load(path.with_suffix(".npz"))), gradients)
            assert_same_losses(json.loads(path.with_suffix(".json").read_text()), losses)
        assert max(losses) > 1.01 * min(losses)
    pmap, cache = json.loads((tmp_path / "refused.json").read_text())
    assert pmap.startswith("--parallel.mode pmap: is for one process")
    assert cache.startswith("--train.cache_frozen on: is for one process")


# --- the command


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of two processes; the second says nothing."""
    output = tmp_path_factory.mktemp("two") / "out"
    with commands(*_both(output)) as started:
        (code, out, _), second = ended(started)
    assert (code, second) == (0, (0, "", ""))
    assert "4 x CPU in 2 processes" in out
    return output


def test_two_processes_give_the_results_of_one(uninterrupted: Path, tmp_path: Path) -> None:
    alone = tmp_path / "out"
    assert main(small(alone, *FLAGS, "--parallel.devices", 4)) == 0
    ours, theirs = (without_cost(results(output)) for output in (uninterrupted, alone))
    for part in ("runs", "summary", "data", "model"):
        mine, reference = _numbers(ours[part]), _numbers(theirs[part])
        assert mine.keys() == reference.keys()
        for place, value in reference.items():
            close = pytest.approx(value, rel=BOUNDS["losses"]) if isinstance(value, int | float) else value
            assert mine[place] == close, place
    assert_scores_of_predictions(uninterrupted, ["full"])
    assert _files(uninterrupted) == _files(alone)
    steps = [metrics(output / RUN) for output in (uninterrupted, alone)]
    assert [len(part) for part in steps[0]] == [len(part) for part in steps[1]] == [2 * PER_EPOCH, 2]
    assert "process" not in settings(uninterrupted)["parallel"]  # the next start may have any number of them


def test_two_processes_end_early_together(tmp_path: Path) -> None:
    """At a rate that learns nothing: after the second of four epochs."""
    flags = ("--strategy", "head", "--head.learning_rate", 1e-12, "--train.epochs", 4, "--train.early_stopping", 1)
    arguments = small(tmp_path / "out", *flags, "--train.runs", 1, "--parallel.devices", 2, *ONE_LAYER)
    with commands(arguments, arguments) as started:
        (code, out, _), second = ended(started)
    assert (code, second) == (0, (0, "", ""))
    assert "head seed 42: ended early, after epoch 2 of 4" in out
    [run] = results(tmp_path / "out")["runs"]
    assert (run["stopped_early"], len(run["val_accuracy"])) == (True, 2)


def test_a_signal_to_one_stops_all_and_the_same_command_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with commands(*_both(output)) as started:
        wait(started, lambda: _lines(output) > 4)
        started[1].send_signal(signal.SIGTERM)
        (code, out, err), second = ended(started)
    assert (code, second) == (143, (143, "", ""))
    steps = _lines(output)
    assert 4 < steps < PER_EPOCH
    assert out.splitlines()[-1] == f"saved at full/seed-42, step {steps}; run the same command to go on"
    assert "Traceback" not in out + err
    saved = [int(path.name[5:]) for path in (output / RUN / "checkpoints").glob("step-*")]
    assert max(saved) == steps

    with commands(*_both(output)) as started:
        (code, out, _), second = ended(started)
    assert (code, second) == (0, (0, "", ""))
    assert f"full seed 42: goes on at step {steps}" in out
    assert without_cost(results(output)) == without_cost(results(uninterrupted))
    for name in ("metrics.jsonl", "predictions.parquet"):
        written = [(folder / RUN / name).read_bytes() for folder in (output, uninterrupted)]
        assert written[0] == written[1]
    ours, theirs = best_weights(output / RUN), best_weights(uninterrupted / RUN)
    assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def test_a_lost_process_ends_the_other(tmp_path: Path) -> None:
    """At once, where the connection tells; else JAX aborts what hasn't heard of a process for a minute."""
    output = tmp_path / "out"
    with commands(*[small(output, *FLAGS, "--parallel.devices", 1)] * 2) as started:
        wait(started, lambda: _lines(output) > 4)
        started[1].kill()
        code, _, err = ended(started)[0]
    assert code in (1, -signal.SIGABRT), err
    if code == 1:
        assert re.fullmatch("error: another process has ended or can't be reached .*\n", err)


# --- what can't work is one line


@pytest.mark.parametrize(
    ("flags", "tells"),
    [
        (["--parallel.processes", 2], "--parallel.processes 2: needs --parallel.coordinator"),
        (["--parallel.process", 0], "--parallel.process 0: needs --parallel.coordinator"),
        (["--parallel.coordinator", "here:1234"], "needs --parallel.processes.* and --parallel.process"),
        (numbered("here", 0), "--parallel.coordinator here: must be HOST:PORT"),
        (numbered("here:99999", 0), "--parallel.coordinator here:99999: must be HOST:PORT"),
        (numbered("here:1234", 2), "--parallel.process 2: must be 0 to 1"),
        (numbered("here:1234", -1), "--parallel.process -1: must be 0 or more"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[Any], tells: str) -> None:
    assert main(small(tmp_path / "out", *flags)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{tells}", line)
    assert not (tmp_path / "out").exists()


def test_who_is_alone_does_not_wait_for_ever(tmp_path: Path) -> None:
    alone = [*small(tmp_path / "out"), "--parallel.start_seconds", "2"]
    nobody = "--parallel.coordinator .*: the processes didn't find each other within 2 s. Start 2 of them"
    tried = [(numbered(address(), number), nobody) for number in range(2)]
    tried.append((["--parallel.coordinator", "auto"], "--parallel.coordinator auto: JAX finds no other processes"))
    started = [start([*alone, *flags], ENVIRONMENT) for flags, _ in tried]
    try:
        for (code, out, err), (_, tells) in zip(ended(started), tried, strict=True):
            assert (code, out) == (2, "")
            assert re.fullmatch(f"error: {tells}.*\n", err), err
    finally:
        for process in started:
            process.kill()


@pytest.mark.parametrize(
    ("flags", "first", "second"),
    [
        (
            (["--train.seed", 1], ["--train.seed", 2]),
            "process 1 .* train.seed 2 .there 1.",
            "process 1 .* train.seed 2",
        ),
        (([], ["--data.source", "nowhere.csv"]), "process 1: --data.source nowhere.csv", "--data.source nowhere.csv"),
    ],
    ids=["other settings", "a file that one lacks"],
)
def test_an_error_of_one_ends_all(tmp_path: Path, flags: tuple[list[Any], list[Any]], first: str, second: str) -> None:
    output = tmp_path / "out"
    with commands(*(small(output, "--parallel.devices", 2, *own) for own in flags)) as started:
        ends = ended(started)
    for (code, _, err), tells in zip(ends, (first, second), strict=True):
        assert code == 2
        assert re.fullmatch(f"error: {tells}.*\n", err), err
    assert not output.exists()
