"""The benchmark of accuracy: a strategy a sitting, on a machine without the libraries that it doesn't need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import one_origin, table
from flax_agnews.runs.result_files import results_from

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("datasets", "wandb", "jsonargparse"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
runpy.run_module("benchmarks.accuracy", run_name="__main__")
"""


@pytest.mark.long
def test_a_strategy_a_sitting_without_what_is_not_needed(tmp_path: Path, shared: Path) -> None:
    for name in ("train", "test"):
        lines = (shared / "ag_news_large" / f"{name}.csv").read_text("utf-8").splitlines(keepends=True)
        (tmp_path / f"{name}.csv").write_text("".join(lines[:300]), "utf-8")
    flags = ["--rows", 200, "--runs", 1, "--model", shared / "mini_gpt2", "--data", tmp_path]
    flags += ["--output", tmp_path / "out", "--results", tmp_path]
    for strategy in ("partial", "head"):
        command = [sys.executable, "-c", BLOCKED, *map(str, flags), "--strategies", strategy]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "accuracy.json").read_text())
    assert {run["strategy"] for run in record["runs"]} == {"partial", "head"}
    page = (tmp_path / "accuracy.md").read_text()
    assert page == table(results_from(record), record["made"])
    assert "computed on the CPU, float32. python " in page
    assert "frozen layers computed once (on, float32, kept as file)" in page
    assert page.index("| partial |") < page.index("| head |")
    assert (tmp_path / "accuracy.png").read_bytes()[:4] == b"\x89PNG"


def test_runs_of_two_commits_are_never_in_one_table(tmp_path: Path) -> None:
    made = {"commit": "abc", "device": "the CPU", "jax": "1"}
    one_origin(tmp_path, made)
    one_origin(tmp_path, {**made, "date": "later"})
    with pytest.raises(SystemExit, match=r"has runs of commit abc, now def\. Choose another --output"):
        one_origin(tmp_path, {**made, "commit": "def"})
