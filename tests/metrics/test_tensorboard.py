"""Event files, read by TensorBoard's own reader: values, steps and times, resumed runs, damage, and a missing library.

A killed experiment is resumed in test_wandb_files.py, with both trackers.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.event_files import events_in, scalars
from support.small_experiments import small

from flax_agnews.config import TrackingConfig
from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.metrics.tensorboard import TensorBoardTracker, check_tensorboard


def fail(line: str) -> None:
    pytest.fail(line)


def logged(folder: Path, values: dict[int, float], finish: bool = True) -> TensorBoardTracker:
    """A tracker that has logged a metric's values, step -> value; without `finish`, with all of them on the disk."""
    tracker = TensorBoardTracker(folder, fail)
    for step, value in values.items():
        tracker.log({"batch/train_loss": value}, step)
    if finish:
        assert tracker.finish()
    else:
        tracker._flush()
    return tracker


def numbers(steps: range, seed: int) -> dict[int, float]:
    return dict(zip(steps, np.random.default_rng(seed).normal(size=len(steps)).tolist(), strict=True))


def rounded(values: dict[int, float]) -> list[tuple[int, float]]:
    return [(step, float(np.float32(value))) for step, value in values.items()]


def test_every_metric_has_its_value_step_and_time(tmp_path, monkeypatch):
    tracker = TensorBoardTracker(tmp_path / "run", fail)
    now = iter(np.arange(1000.5, 2000))
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    tracker.log({"batch/train_loss": 0.1, "batch/grad_norm": float("inf")}, 1)
    tracker.log({"batch/train_loss": float("nan")}, 2)
    tracker.log({"val/accuracy": 1 / 3}, 2)
    monkeypatch.undo()
    assert tracker.finish()
    assert not tracker.finish()  # nothing more
    events = events_in(tmp_path / "run")
    assert events.Tags()["scalars"] == ["batch/train_loss", "batch/grad_norm", "val/accuracy"]
    assert scalars(events, "batch/train_loss")[0] == (1, np.float32(0.1))
    assert np.isnan(scalars(events, "batch/train_loss")[1][1])
    assert scalars(events, "batch/grad_norm") == [(1, np.inf)]
    assert scalars(events, "val/accuracy") == [(2, np.float32(1 / 3))]
    times = [event.wall_time for name in ("batch/train_loss", "val/accuracy") for event in events.Scalars(name)]
    assert times == sorted(times)
    assert 1000 < times[0] < times[-1] < 2000


def test_a_picture_and_a_table(tmp_path):
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.savefig(tmp_path / "curves.png")
    tracker = TensorBoardTracker(tmp_path / "run", fail)
    tracker.figure("curves", tmp_path / "curves.png")
    tracker.table("final", ["strategy", "accuracy", "rank"], [["a|b", 0.91234, None], ["full", 0.5, 2]])
    tracker.table("long", ["text"], [["word"]] * 1001)
    tracker.files("report", [tmp_path / "curves.png"])
    assert tracker.finish()
    events = events_in(tmp_path / "run")
    [image] = events.Images("curves")
    assert image.encoded_image_string == (tmp_path / "curves.png").read_bytes()
    assert (image.width, image.height) == (100, 50)
    assert events.Tags()["tensors"] == ["final"]
    assert events.PluginTagToContent("text").keys() == {"final"}
    [text] = events.Tensors("final")[0].tensor_proto.string_val
    lines = text.decode().splitlines()
    assert lines[0] == "| strategy | accuracy | rank |"
    assert lines[2:] == ["| a\\|b | 0.9123 |  |", "| full | 0.5 | 2 |"]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])
def test_a_resumed_run_repeats_and_loses_no_step(tmp_path, ended):
    """It logs the steps up to its checkpoint again; those that were trained after it may have other values."""
    before, after = numbers(range(1, 11), 0), numbers(range(7, 15), 1)
    killed = logged(tmp_path, before, finish=ended)
    watching = events_in(tmp_path)  # as a TensorBoard that is open all the time
    assert scalars(watching, "batch/train_loss") == rounded(before)
    times = {event.step: event.wall_time for event in watching.Scalars("batch/train_loss")}
    whole = {step: value for step, value in before.items() if step <= 6} | after
    logged(tmp_path, whole)
    events = events_in(tmp_path)
    assert scalars(events, "batch/train_loss") == rounded(whole)
    found = {event.step: event.wall_time for event in events.Scalars("batch/train_loss")}
    assert {step: found[step] for step in times} == times
    assert found[11] > max(times.values())
    killed.finish()


def test_a_reader_that_is_open_forgets_what_is_replaced(tmp_path):
    logged(tmp_path, numbers(range(1, 11), 0))
    watching = events_in(tmp_path)
    for seed in range(1, 4):
        whole = numbers(range(1, 8), seed)
        logged(tmp_path, whole)
        assert scalars(watching.Reload(), "batch/train_loss") == rounded(whole)
        assert scalars(events_in(tmp_path), "batch/train_loss") == rounded(whole)
        sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
        assert [size > 0 for size in sizes] == [False, True]


@pytest.mark.parametrize("end", [-1, -20, 5, 0])
def test_a_file_that_is_cut_off_or_damaged_is_replaced(tmp_path, end):
    logged(tmp_path, numbers(range(1, 5), 0))
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:end])
    logged(tmp_path, numbers(range(1, 7), 1))
    path = max(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    content[60:] = os.urandom(len(content) - 60)
    path.write_bytes(content)
    logged(tmp_path, numbers(range(1, 9), 2))
    assert scalars(events_in(tmp_path), "batch/train_loss") == rounded(numbers(range(1, 9), 2))


def test_other_event_files_stay(tmp_path):
    other = tmp_path / "events.out.tfevents.1234567890.host"
    other.write_bytes(b"another program's")
    logged(tmp_path, {1: 0.5})
    logged(tmp_path, {1: 0.5})
    assert other.read_bytes() == b"another program's"
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_logged_is_no_file(tmp_path):
    logged(tmp_path, {1: 0.5})
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert not TensorBoardTracker(tmp_path, fail).finish()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_an_error_is_one_line_and_ends_it(tmp_path):
    (tmp_path / "run").write_text("a file")
    notes: list[str] = []
    tracker = TensorBoardTracker(tmp_path / "run", notes.append)
    for step in range(3):
        tracker.log({"batch/train_loss": 0.5}, step)
    tracker.table("final", ["a"], [[1]])
    assert not tracker.finish()
    [note] = notes
    assert note.startswith("TensorBoard is off: ")
    assert len(note.splitlines()) == 1


def test_a_picture_that_is_missing_ends_it_and_keeps_what_was_logged(tmp_path):
    notes: list[str] = []
    tracker = TensorBoardTracker(tmp_path, notes.append)
    tracker.log({"batch/train_loss": 0.5}, 1)
    tracker.figure("curves", tmp_path / "missing.png")
    assert not tracker.finish()
    assert len(notes) == 1
    assert scalars(events_in(tmp_path), "batch/train_loss") == [(1, 0.5)]


def test_without_the_library_it_is_one_line(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name == "tensorboard" or name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    check_tensorboard(TrackingConfig())
    with pytest.raises(UserError, match=r"^tracking\.tensorboard true: TensorBoard is not installed\. Run pip install"):
        check_tensorboard(TrackingConfig(tensorboard=True))
    output = tmp_path / "out"
    assert main(small(output, "--strategy", "head", "--tracking.tensorboard", "true")) == 2
    error = capsys.readouterr().err
    assert error == "error: --tracking.tensorboard true: TensorBoard is not installed. Run pip install tensorboard\n"
    assert not output.exists()


def test_tensorflow_is_not_imported_though_it_is_installed(tmp_path):
    """It would take seconds, and memory of the GPU."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('imported')")
    script = f"""
from pathlib import Path
from flax_agnews.config import TrackingConfig
from flax_agnews.metrics.tensorboard import TensorBoardTracker, check_tensorboard
check_tensorboard(TrackingConfig(tensorboard=True))
tracker = TensorBoardTracker(Path({str(tmp_path / "run")!r}), print)
tracker.log({{"a": 1.0}}, 1)
tracker.table("t", ["a"], [[1]])
assert tracker.finish()
"""
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
    assert done.stdout + done.stderr == b""
    assert done.returncode == 0
    assert scalars(events_in(tmp_path / "run"), "a") == [(1, 1.0)]
