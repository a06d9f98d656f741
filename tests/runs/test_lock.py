"""An output folder has one process at a time."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_experiments import small

from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.runs.lock import Lock

HOLD = "import sys, pathlib, time; from flax_agnews.runs.lock import Lock; lock = Lock(pathlib.Path(sys.argv[1])); "
HOLD += "lock.take(); print('taken', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    """Another process that has the folder `out`."""
    (tmp_path / "out").mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_with_the_firsts_pid_and_host(holder, tmp_path, capsys):
    assert main(small(tmp_path / "out")) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"is in use by process {holder.pid} on {socket.gethostname()}" in line
    assert "--output" in line
    assert not (tmp_path / "out" / "config.yaml").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owners_lock_is_taken_over(holder, tmp_path, number):
    with pytest.raises(UserError):
        Lock(tmp_path / "out").take()
    holder.send_signal(number)
    holder.wait()
    lock = Lock(tmp_path / "out")
    lock.take()
    assert str(os.getpid()) in (tmp_path / "out" / ".owner.json").read_text()
    with pytest.raises(UserError, match=re.escape(f"process {os.getpid()} on")):
        Lock(tmp_path / "out").take()
    lock.release()
    Lock(tmp_path / "out").take()
