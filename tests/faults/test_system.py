"""Faults of the system: full disks, deleted folders, a second interrupt. No finished run is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.experiments import SECONDS
from support.small_experiments import results, small, start, without_cost

from flax_agnews.main import main

pytestmark = pytest.mark.faults

FLAGS = ("--strategy", "full", "--train.runs", 2, "--train.batch_size", 2, "--data.limit_train", 400)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


def _same(output: Path, reference: Path) -> None:
    assert without_cost(results(output)) == without_cost(results(reference))
    for seed in (42, 43):
        name = f"full/seed-{seed}/metrics.jsonl"
        assert (output / name).read_bytes() == (reference / name).read_bytes()


def _limited(output: Path, size: int, *flags: object) -> "subprocess.CompletedProcess[str]":
    """The command, where no file may grow beyond a size in KiB: what a full disk is to it, without mounting one."""
    command = [sys.executable, "-m", "flax_agnews.main", *small(output, *FLAGS, *flags)]
    return subprocess.run(
        ["bash", "-c", f'ulimit -f {size}; trap "" XFSZ; exec "$@"', "bash", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"FLAX_AGNEWS_CACHE": str(output.parent / "cache"), "PYTHONUNBUFFERED": "1"},
    )


def test_saves_that_fail_are_told_and_training_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    """No array fits, and after a while no line of metrics: each save fails, in one line, and so does the run."""
    output = tmp_path / "out"
    assert main(small(output, *FLAGS)) == 0  # what is written before the first update is there
    shutil.rmtree(output / "full")
    done = _limited(output, 30, "--checkpoint.every_steps", 60)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stdout + done.stderr
    assert "can't be saved" in last or "cannot be written" in last
    assert done.stdout.count("could not be saved") >= 3
    assert main(small(output, *FLAGS)) == 0
    _same(output, undisturbed)


def test_a_disk_that_fills_up_under_way(undisturbed: Path, small_disk: Path) -> None:
    """Something else fills it after the first saves; with room again, the same command ends as if it had not been."""
    output = small_disk / "out"
    environment = os.environ | {"FLAX_AGNEWS_CACHE": str(small_disk.parent / "cache")}
    process = start(small(output, *FLAGS, "--checkpoint.every_steps", 20), environment)
    metrics = output / "full" / "seed-42" / "metrics.jsonl"
    _wait(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 45)
    filler = small_disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, out + err
    assert "No space left on device" in err.splitlines()[-1]  # TensorStore may have printed more before
    filler.unlink()
    assert main(small(output, *FLAGS, "--checkpoint.every_steps", 20)) == 0
    _same(output, undisturbed)


def _wait(process: "subprocess.Popen[str]", until: object) -> None:
    end = time.monotonic() + SECONDS
    while not until():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_disk_too_small_is_refused_before_anything_is_computed(small_disk: Path, capsys) -> None:
    assert main(small(small_disk / "out", *FLAGS, "--train.runs", 40)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "weights and states take up to" in line
    assert "there is room for 4.2 MB" in line


def test_a_folder_that_is_deleted_under_way_is_one_line(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(small(output, *FLAGS))
    metrics = output / "full" / "seed-42" / "metrics.jsonl"
    _wait(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 5)
    while output.exists():  # while it writes into it
        shutil.rmtree(output, ignore_errors=True)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, out + err
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert "cannot be written" in line


def test_a_folder_in_which_nothing_can_be_written_is_one_line(small_disk: Path, capsys) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert main(small(small_disk / "out", *FLAGS)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"error: {small_disk / 'out' / 'config.yaml'}: cannot be written (Read-only file system)"


def test_a_second_sigint_stops_at_once(undisturbed: Path, tmp_path: Path) -> None:
    """Also while a save is written, which is slow here: a process that is told twice doesn't wait for it."""
    output = tmp_path / "out"
    slow = (
        "import sys, time; from flax_agnews.training import checkpoint; save = checkpoint._save\n"
        "def slow(*args):\n    print('saving', flush=True); time.sleep(600)\n"
        "checkpoint._save = slow\n"
        "from flax_agnews.main import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *small(output, *FLAGS)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    next(line for line in process.stdout if line == "saving\n")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # waits for the save
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert main(small(output, *FLAGS)) == 0
    _same(output, undisturbed)
