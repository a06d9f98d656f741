"""The benchmark of waiting: where an output's seconds belong, and real processes whose seconds are known."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import waiting
from benchmarks.support.watched_commands import Chunk, Line, Watched, import_seconds, lines, parts, watch

ROOT = Path(__file__).resolve().parents[2]

PRINTED = """\
1 starting ...
4 starting: 3 s
4 flax_agnews 0.1.0 · JAX 0.10.2 · 1 x CPU · float32 · output out
4.5 reading builtin ...
5 loading builtin ...
8 tokenizing ...
9 checking what the strategies do ...
12 plan   2 strategies x 1 seeds
14 compiling full ...
20 compiling full: 6 s
21 full: 10 MB are saved about every 5 s, the most that a crash can lose
30 full seed 42  epoch 1/2  val 0.918  best 0.918
33 full seed 42  done in 0:00:13  test 0.909
34 compiling prompt ...
35.5 prompt: 22 kB are saved about every 1 s, the most that a crash can lose
40 prompt seed 42  done in 0:00:05  test 0.909
41 partial: caching the lower 1 of 3 layers: 56 MB in cache/activations
47 cache partial  done in 0:00:06  kept for all epochs and seeds
47 compiling partial ...
49 Weights & Biases is off: no key
52 partial seed 42  done in 0:00:03  test 0.915
53 writing the report ...
56 writing the report: 3 s
"""


def test_seconds_belong_to_the_part_that_a_line_begins() -> None:
    split = [line.split(" ", 1) for line in PRINTED.splitlines()]
    found = parts([Line(float(seconds), text) for seconds, text in split], wall=57)
    assert found == {
        "import": 4.5,
        "read": 3.5,
        "tokenize": 1,
        "plan": 14 - 9,
        "compile": (20 - 14) + (35.5 - 34) + (49 - 47),
        "runs": (34 - 20) + (41 - 35.5) + (53 - 49),
        "cache": 47 - 41,
        "report": 57 - 53,
    }
    assert sum(found.values()) == 57


def test_a_command_without_parts_only_imports() -> None:
    assert parts([Line(0.5, "usage: ...")], 2) == {"import": 2}


def test_a_line_arrives_when_its_end_does() -> None:
    chunks = [Chunk(1, b"first\r\nsec"), Chunk(2, b"ond\nthird\n"), Chunk(3, b"without an end")]
    assert lines(chunks) == [Line(1, "first"), Line(2, "second"), Line(2, "third")]


def test_silence_counts_until_the_end() -> None:
    assert Watched(9, 0, 0, [Chunk(3, b"a"), Chunk(5, b"b"), Chunk(6, b"c")]).silence == 3
    assert Watched(6.5, 0, 0, [Chunk(3, b"a"), Chunk(5, b"b"), Chunk(6, b"c")]).silence == 2
    assert Watched(6.5, 0, 0, [Chunk(3, b"a")]).first == 3


def test_imports_are_summed_once() -> None:
    said = "import time: self [us] | cumulative | imported package\n"
    said += "import time:       100 |        100 |   inner\nimport time:    200000 |     200100 | outer\nother: 5 | 6\n"
    assert import_seconds(said) == pytest.approx(0.2001)


def run(script: str, folder: Path, terminal: bool = False) -> Watched:
    return watch([sys.executable, "-c", script], folder, os.environ, terminal)


def test_a_process_is_timed_with_its_children(tmp_path: Path) -> None:
    script = """
import os, subprocess, sys, time
print(os.getcwd())
spent = "import time\\nwhile time.process_time() < 0.4: pass"
subprocess.run([sys.executable, "-c", spent])
print("spent")
time.sleep(0.7)
sys.exit(3)
"""
    done = run(script, tmp_path)
    assert done.code == 3
    assert [line.text for line in lines(done.chunks)] == [str(tmp_path), "spent"]
    assert done.processor >= 0.4
    assert done.silence >= 0.4
    assert done.wall - lines(done.chunks)[1].seconds >= 0.7  # it isn't over before the process is


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_in_a_terminal_sees_one(tmp_path: Path, terminal: bool) -> None:
    script = "import shutil, sys; print(sys.stdout.isatty(), shutil.get_terminal_size((7, 7)).columns)"
    done = run(script, tmp_path, terminal)
    assert done.text.split()[0] == str(terminal)
    assert not terminal or done.text.split()[1] == "120"


def test_a_target_is_met_or_missed() -> None:
    row = {"wall": 61.0, "processor": 1.5, "into": {"compile": 59.0}}
    judged = [waiting.judged(row, of, most) for of, most in (("wall", 60), ("processor", 1.5), ("compile", 58.96))]
    assert judged == ["60: missed", "processor time 1.5: met", "compile 59: missed"]


def smoke(results: Path, *flags: str) -> dict[str, waiting.Record]:
    """Runs the benchmark's small form; returns its rows by name, and checks that the page has them all."""
    command = [sys.executable, "-m", "benchmarks.waiting", "--smoke", "--repeats", "1", "--device", "cpu", *flags]
    command += ["--results", str(results)]
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((results / "waiting.json").read_text())
    assert (results / "waiting.md").read_text() == waiting.page(record)
    found: dict[str, waiting.Record] = record["entries"]
    return found


@pytest.mark.long
def test_experiments_are_divided_into_parts(tmp_path: Path) -> None:
    rows = smoke(tmp_path, "--groups", "quickstart", "comparison", "compiling", "--tests_seconds", "412")
    shown = rows["the quickstart, in a terminal, cold"]
    assert min(shown["into"].values()) > 0
    assert shown["into"]["first output"] + shown["into"]["longest silence"] <= shown["wall"]
    for name in ("the quickstart", "full, partial and prompt, 1 x 16, 72 texts"):
        cold, warm = rows[f"{name}, cold"], rows[f"{name}, warm"]
        assert {"import", "read", "plan", "compile", "train", "evaluate and save", "report"} <= set(cold["into"])
        assert sum(cold["into"].values()) == pytest.approx(cold["wall"])
        assert min(cold["into"].values()) >= 0
        assert warm["into"]["compile"] < cold["into"]["compile"]
    answers = [row for name, row in rows.items() if "predict" in name]
    assert len(answers) == 4
    assert all(0 < row["into"]["import"] <= row["wall"] for row in answers)
    assert rows["compiling"]["wall"] > 0
    assert rows["`pytest`"]["wall"] == 412


@pytest.mark.long
def test_rows_are_added_to_those_of_the_same_commit(tmp_path: Path) -> None:
    """A mistake ends with 2, as it should; the other commands with 0."""
    first = smoke(tmp_path, "--groups", "commands")
    assert len(first) == 2 * len(waiting.ANSWERS)
    second = smoke(tmp_path, "--groups", "--ci_seconds", "1700")
    assert second == {**first, "`.ci/run`": second["`.ci/run`"]}


def test_the_benchmark_imports_no_jax() -> None:
    """A worker imports its parent's modules before its environment is set; JAX reads that when it is imported."""
    asked = "import sys, benchmarks.waiting; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT).returncode == 0
