"""A resumed run goes on in its W&B run: the real client uploads every step once."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.event_files import assert_events_are_metrics
from support.small_experiments import ONE_LAYER, metrics, results, small, start
from support.wandb_standin import Server, serving

from flax_agnews.config import TrackingConfig
from flax_agnews.main import main
from flax_agnews.metrics import tracking
from flax_agnews.metrics.tracking import Tracker, WandbTracker, open_tracker
from flax_agnews.metrics.wandb_files import last_row


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that the client finds, and nothing else that it would find."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tracking, "_unreachable", {})
    with serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def _opened(folder: Path, mode: Any) -> Tracker:
    config = TrackingConfig(wandb=mode, project="agnews")
    tracker, _ = open_tracker(config, name="full seed 42", group="full", settings={}, folder=folder)
    assert isinstance(tracker, WandbTracker)
    return tracker


def _piece(folder: Path, mode: str, steps: Sequence[int]) -> None:
    """Logs updates of a run, and an epoch after every fourth."""
    tracker = _opened(folder, mode)
    for step in steps:
        tracker.log({"batch/train_loss": 1 / step}, step)
        if step % 4 == 0:
            tracker.log({"val/loss": -1 / step}, step)
    assert tracker.finish()


def _settle(folder: Path) -> None:
    """Waits until W&B's own process has written all files: none has changed for a moment."""
    while any(time.time() - path.stat().st_mtime < 0.5 for path in folder.rglob("*.wandb")):
        time.sleep(0.05)


def _one_run(server: Server) -> list[dict[str, Any]]:
    """The rows of the only run; no step comes twice, or goes back."""
    assert len(server.rows) == 1, server.rows
    [rows] = server.rows.values()
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps))
    return rows


PIECES: dict[str, list[tuple[str, range]]] = {
    "each where the last one ended": [("offline", range(1, 5)), ("offline", range(5, 9)), ("offline", range(9, 13))],
    "some updates once more": [("offline", range(1, 8)), ("offline", range(5, 10)), ("offline", range(3, 13))],
    "from the start": [("offline", range(1, 10)), ("offline", range(1, 13))],
    "online": [("online", range(1, 8)), ("online", range(5, 13))],
    "online and then offline": [("online", range(1, 8)), ("offline", range(5, 13))],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_pieces_become_one_run_with_every_step_once(
    server: Server, tmp_path: Path, pieces: list[tuple[str, range]]
) -> None:
    for mode, steps in pieces:
        _piece(tmp_path / "run", mode, steps)
    _settle(tmp_path)
    server.sync(tmp_path / "run" / "wandb")
    rows = _one_run(server)
    assert [row["_step"] for row in rows] == list(range(1, 13))
    assert [row["batch/train_loss"] for row in rows] == [1 / step for step in range(1, 13)]
    assert {row["_step"]: row["val/loss"] for row in rows if "val/loss" in row} == {4: -1 / 4, 8: -1 / 8, 12: -1 / 12}


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_what_the_last_row_lacks_is_in_the_next_one(server: Server, tmp_path: Path, mode: str) -> None:
    """A run that is stopped between its last update and its scores is tested when it goes on."""
    first = _opened(tmp_path, mode)
    first.log({"batch/train_loss": 0.5}, 4)
    first.finish()
    second = _opened(tmp_path, mode)
    for step in (3, 4):
        second.log({"batch/train_loss": 0.25}, step)
    second.log({"test/accuracy": 0.75}, 4)
    second.finish()
    _settle(tmp_path)
    server.sync(tmp_path / "wandb")
    one, other = _one_run(server)
    assert (one["_step"], one["batch/train_loss"]) == (4, 0.5)
    assert (other["_step"], other["test/accuracy"]) == (5, 0.75)
    assert "batch/train_loss" not in other


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.1])
def test_a_file_that_ends_in_the_middle_is_read_as_far_as_wandb_reads_it(
    server: Server, tmp_path: Path, share: float
) -> None:
    """Several blocks long, so that records lie over their ends; cut as a killed process leaves it."""
    tracker = _opened(tmp_path, "offline")
    for step in range(1, 301):
        tracker.log({"batch/train_loss": 1 / step, f"name_{step % 7}": float(step)}, step)
    tracker.finish()
    _settle(tmp_path)
    [path] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = path.read_bytes()
    assert len(content) > 2 * 32768
    path.write_bytes(content[: round(share * len(content))])
    server.sync(tmp_path / "wandb")
    row = _one_run(server)[-1]
    step, names = last_row(tmp_path / "wandb", path.stem.removeprefix("run-"))
    assert (step, names) == (row["_step"], set(row))
    assert (share == 1) == (step == 300)


# --- whole experiments

FLAGS = ("--strategy", "full", "--train.runs", 1, "--train.batch_size", 2, "--data.limit_train", 200, *ONE_LAYER)
RUN = Path("full") / "seed-42"
SECONDS = 120  # until a busy machine has imported and compiled


@pytest.mark.parametrize("lines", [20, 130])
def test_a_killed_run_goes_on_in_the_same_one(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: int
) -> None:
    """What the killed client had not written yet, which is all of a few lines, is taken from the file of metrics."""
    tracked = ("--tracking.wandb", "offline", "--tracking.tensorboard", "true")
    output, flags = tmp_path / "out", (*FLAGS, *tracked, "--checkpoint.every_steps", 20)
    process = start(small(output, *flags))
    path, end = output / RUN / "metrics.jsonl", time.monotonic() + SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert not (output / RUN / "result.json").exists()
    assert main(small(output, *flags)) == 0
    assert lines < 100 or re.search(r"full seed 42: goes on at step \d+", capsys.readouterr().out)
    assert len(list((output / RUN / "wandb").glob("offline-run-*"))) == 2
    server.sync(output / RUN / "wandb")
    rows = _one_run(server)
    updates, epochs = metrics(output / RUN)
    assert [row["_step"] for row in rows] == [update["step"] for update in updates]
    for name in ("batch/train_loss", "batch/grad_norm"):
        assert [row[name] for row in rows] == pytest.approx([update[name] for update in updates], rel=1e-6)
    closing = [row for row in rows if "val/loss" in row]
    assert [row["_step"] for row in closing] == [len(updates) // len(epochs) * epoch["epoch"] for epoch in epochs]
    assert [row["val/accuracy"] for row in closing] == pytest.approx([epoch["val/accuracy"] for epoch in epochs])
    assert all(row["epoch_time"] > 0 for row in closing)
    assert rows[-1]["test/accuracy"] == pytest.approx(results(output)["runs"][0]["test_accuracy"])
    assert_events_are_metrics(output, "full", 42)


def test_a_finished_comparison_adds_nothing_and_a_larger_one_goes_on(server: Server, tmp_path: Path) -> None:
    output, flags = tmp_path / "out", ("--strategy", "head", "--train.epochs", 1, "--tracking.wandb", "offline")
    for _ in range(2):
        assert main(small(output, *flags, "--train.runs", 1)) == 0
        assert len(list(output.rglob("offline-run-*"))) == 2  # the run, and the comparison
    assert main(small(output, *flags, "--train.runs", 2)) == 0
    assert len(list(output.rglob("offline-run-*"))) == 4
    for _ in range(2):
        assert main(small(output, "--strategy", "head", "--train.epochs", 1, "--tracking.wandb", "online")) == 0
    assert not server.runs
    server.sync(*output.rglob("wandb"))
    assert len(server.runs) == 3
    assert sorted(run["displayName"] for run in server.begun) == ["comparison", "head seed 42", "head seed 43"]
    [comparison] = [rows for rows in server.rows.values() if "results" in rows[0]]
    assert [row["results"]["nrows"] for row in comparison] == [1, 2]
