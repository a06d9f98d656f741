"""The check of slow tests, on a suite of two tests of which one computes for a while."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.slow_tests import mistakes

SUITE = """
import time

def test_quick(): pass

def test_slow():
    begin = time.process_time()
    while time.process_time() < begin + 0.3:
        pass
"""

PLUGIN = """
from support.slow_tests import ProcessorTime

def pytest_configure(config):
    config.pluginmanager.register(ProcessorTime({slow}, limit=0.25))
"""


def test_a_slow_test_needs_a_row_and_a_row_needs_a_test():
    assert mistakes({"a": 30.0, "b": 10.0}, {"a": "why"}, 20.0) == []
    assert [line.split()[0] for line in mistakes({"a": 30.0, "b": 10.0}, {"c": "why"}, 20.0)] == ["a", "c"]


@pytest.mark.parametrize(
    ("slow", "arguments", "failed"),
    [({}, ["-n1"], True), ({"test_a.py::test_slow": "why"}, ["-n0"], False), ({}, ["-n0", "test_a.py"], False)],
    ids=["no row", "row", "one file"],
)
def test_a_run_of_the_whole_suite_fails(tmp_path: Path, slow, arguments, failed):
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    (tmp_path / "test_a.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(PLUGIN.format(slow=slow))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # without what isn't needed here
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == failed, done.stdout + done.stderr
    assert ("test_a.py::test_slow took" in done.stdout) == failed
    assert "2 passed" in done.stdout
