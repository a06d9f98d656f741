"""The benchmark of accuracy: sittings that go on, strategy by strategy; what its page says; devices don't mix."""

import argparse
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.output_folders import experiment, output_folder

from benchmarks import accuracy
from benchmarks.support.accuracy_curve import picture
from benchmarks.support.accuracy_page import page
from benchmarks.support.rate_table import edges, rate_rows
from benchmarks.support.resumable import run_or_exit
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import read_answer, read_results
from flax_agnews.report.answer import Answer
from flax_agnews.runs.results import Results
from flax_agnews.system.interrupt import Stopped

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG"
MADE = {"commit": "abc", "date": "today", "device": "the CPU", "jax": "1"}
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
        (tmp_path / f"{name}.csv").write_text("".join(lines[:500]), "utf-8")
    flags = ["--rows", 200, "--runs", 1, "--model", shared / "mini_gpt2", "--data", tmp_path]
    flags += ["--output", tmp_path / "out", "--results", tmp_path]
    for strategy in ("partial", "head"):
        command = [sys.executable, "-c", BLOCKED, *map(str, flags), "--strategies", strategy]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "accuracy.json").read_text())
    assert {run["strategy"] for run in record["sizes"]["200"]["runs"]} == {"partial", "head"}
    written = (tmp_path / "accuracy.md").read_text()
    assert "Computed on the CPU, float32" in written
    assert "frozen layers computed once (on, float32, kept as file)" in written
    assert (tmp_path / "accuracy.png").read_bytes()[:4] == PNG


# A sitting


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the package's own small body and texts, with a few updates."""
    monkeypatch.setattr(accuracy, "LONGEST", 64)
    monkeypatch.setattr(accuracy, "FEWEST_UPDATES", 4)
    monkeypatch.setattr(accuracy, "TRIAL_UPDATES", 20)
    places = {"model": "builtin", "data": "builtin", "output": tmp_path / "out", "results": tmp_path / "results"}
    return [*(f"--{name}={place}" for name, place in places.items()), "--strategies=head"]


def written(tmp_path: Path, suffix: str) -> str:
    return (tmp_path / "results" / f"accuracy{suffix}").read_text("utf-8")


def test_sittings_go_on_and_the_page_says_what_is_left(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy.main([*flags, "--rows=64", "--runs=1"])
    first = written(tmp_path, ".md")
    assert "- on 64 training texts 1 run of full, prompt, partial, lora\n" in first
    assert "- on 18,000 training texts 1 run of full, prompt, partial, head, lora\n" in first
    resume = f"python -m benchmarks.accuracy --rows 64,500,2000,8000,18000 --output {tmp_path / 'out'}"
    assert f"`{resume}` goes on where it stopped." in first
    result = tmp_path / "out" / "rows-64" / "head" / "seed-0" / "result.json"
    before, commit = result.stat().st_mtime_ns, {**accuracy.circumstances(), "commit": "another"}
    monkeypatch.setattr(accuracy, "circumstances", lambda: commit)
    accuracy.main([*flags, "--rows=64,32", "--runs=2"])
    assert result.stat().st_mtime_ns == before
    record = json.loads(written(tmp_path, ".json"))
    assert {rows: len(one["runs"]) for rows, one in record["sizes"].items()} == {"32": 2, "64": 2}
    assert {rows: one["data"]["train"] for rows, one in record["sizes"].items()} == {"32": 32, "64": 64}
    second = written(tmp_path, ".md")
    assert "2 sittings: " in second
    assert "(commit another)" in second
    assert (tmp_path / "results" / "accuracy.png").read_bytes()[:4] == PNG
    assert "<title>" in written(tmp_path, ".html")

    def fail(*_: Any) -> None:
        raise AssertionError("all of it is finished")

    monkeypatch.setattr(accuracy, "Experiment", fail)
    for call in ([*flags, "--rows=64,32", "--runs=2"], [*flags, "--pages", "--runs=2"]):
        (tmp_path / "results" / "accuracy.md").unlink()
        accuracy.main(call)
        assert written(tmp_path, ".md") == second


def test_without_a_finished_run_there_is_no_page(flags: list[str]) -> None:
    with pytest.raises(SystemExit, match="has no finished run"):
        accuracy.main([*flags, "--pages"])


@pytest.mark.parametrize("name", ["device", "jax"])
def test_devices_and_versions_of_jax_are_never_in_one_table(tmp_path: Path, name: str) -> None:
    for made in (MADE, MADE, {**MADE, "commit": "def"}):
        accuracy.record_sitting(tmp_path, made)
    with pytest.raises(SystemExit, match=rf"has runs of {name} .*, now other\. Choose another --output"):
        accuracy.record_sitting(tmp_path, {**MADE, name: "other"})
    sittings = json.loads((tmp_path / "sittings.json").read_text())["sittings"]
    assert sittings == [{"date": "today", "commit": "abc"}, {"date": "today", "commit": "def"}]


# Settings


@pytest.mark.parametrize("rows", accuracy.SIZES)
def test_every_number_of_texts_trains_exactly_and_long_enough(rows: int) -> None:
    options = argparse.Namespace(output=Path("out"), model="m", data="d", runs=5)
    config = accuracy.configuration(options, rows, accuracy.STRATEGIES)
    assert config.data.limit_train
    held_out = math.ceil(config.data.validation_fraction * config.data.limit_train)  # as `split_off` rounds
    assert config.data.limit_train - held_out == rows
    assert held_out == {18_000: 2000, 8000: 888, 2000: 250, 500: 250}[rows]
    updates = config.train.epochs * math.ceil(rows / config.train.batch_size)
    assert updates >= 150
    assert config.train.epochs == 2 or updates - math.ceil(rows / config.train.batch_size) < 150
    assert config.search.budget * updates == pytest.approx(300, rel=0.01)


def test_what_pytorch_was_measured_with_comes_first_and_lora_on_most_texts_last() -> None:
    parts = list(accuracy.stages(accuracy.SIZES, accuracy.STRATEGIES))
    assert parts[0] == (18_000, ["full", "prompt", "partial", "head"])
    assert parts[-1] == (18_000, ["full", "prompt", "partial", "head", "lora"])  # the others are finished by then
    assert sorted(rows for rows, _ in parts[1:-1]) == [500, 2000, 8000]
    assert list(accuracy.stages([500], ["head", "lora"])) == [(500, ["head", "lora"])]


# The page


def made_up(path: Path, texts: int, factors: dict[str, float], **scores: list[float]) -> Answer:
    """The answer of made-up runs on so many training texts, whose rates have these factors, of 0.1 to 10."""
    results = experiment(**scores)
    results["data"]["train"] = texts
    tried = (0.1, 1, 10)
    trials = [{"factor": f, "updates": 10, "val_accuracy": 0.5 + f / 100, "val_loss": 1.0} for f in tried]
    results["search"] = {
        name: {"factor": factor, "rates": [factor / 100], "edge": "highest" if factor == 10 else "", "trials": trials}
        | {"updates": 30, "cost": {"seconds": 1.0}}
        for name, factor in factors.items()
    }
    folder = output_folder(path, results)
    return read_answer(folder, read_results(folder))


def test_the_page_has_figures_beside_pytorch_and_columns_by_number_of_texts(tmp_path: Path) -> None:
    many = made_up(tmp_path / "a", 18_000, {"full": 1, "head": 1}, full=[0.9, 0.88, 0.91], head=[0.7, 0.72, 0.69])
    few = made_up(tmp_path / "b", 500, {"full": 10}, full=[0.6, 0.65, 0.62])
    origin = {**dict.fromkeys(("python", "flax", "optax", "numpy", "precision", "processor"), "x"), **MADE}
    text = page({500: few, 18_000: many}, "About.", {**origin, "savings": "all", "sittings": [MADE]}, {}, "")
    assert "Not finished" not in text
    # 0.8967 is the mean of the three, 0.8943 that of PyTorch's two
    assert "| full | 0.9000, 0.8800, 0.9100 | 0.8967 | 0.8900, 0.8986 | 0.8943 | +0.2 points |" in text
    assert "| prompt |" not in text
    assert "|  | 500 texts | 18,000 texts |" in text
    assert "| head | – | 0.703 (" in text
    assert "better ones may lie beyond: full on 500 texts (highest)." in text
    assert "| 500 | full | 0.1 | x 10 (highest tried) | 0.510, 0.600 |" in text
    assert picture({500: few, 18_000: many})[:4] == PNG
    assert edges({"18,000 texts": many}) == "No chosen rate is the lowest or highest that was tried."
    assert [row[0] for row in rate_rows(few)] == ["full"]


def test_a_sitting_that_is_stopped_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Experiment):
        def __init__(self) -> None: ...

        def run(self) -> Results:
            raise Stopped("full seed 1: saved at step 3", signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        run_or_exit(Interrupted())
    assert end.value.code == 143
    assert capsys.readouterr().err == "full seed 1: saved at step 3; the same command goes on\n"
