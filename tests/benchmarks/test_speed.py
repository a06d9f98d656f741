"""The benchmarks of speed, tiny: what turning a saving off changes, and the commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny

from benchmarks import growth, savings, throughput
from benchmarks.support.experiment_flags import trial_flags
from benchmarks.support.training_steps import TrialSteps, preparation
from benchmarks.support.trial import Result, Trial
from benchmarks.support.without_savings import CHANGES, plain_product, resized
from benchmarks.support.workers import Sample
from flax_agnews.cli import arguments
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import layers
from flax_agnews.training.parallel import Devices

pytestmark = pytest.mark.long

BODY = json.dumps({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 300})
PNG = b"\x89PNG"
ROOT = Path(__file__).resolve().parents[2]
_TOLD = ("date", "commit", "processor", "backend", "device", "python", "jax", "flax", "optax", "numpy")
MADE = {**dict.fromkeys(_TOLD, "x"), "load_before": 0.5}


@pytest.fixture(scope="module")
def trial(shared: Path) -> Trial:
    where = {"data": str(shared / "ag_news"), "tokenizer": str(shared / "gpt2_tokenizer")}
    return Trial(model=BODY, batch_size=6, shapes=1, runs=1, rows=40, **where)


# Switches


def losses(steps: TrialSteps) -> list[float]:
    """Of the first two updates."""
    found = []
    for step in range(2):
        steps.state, metrics = steps.program.train_together(steps.state, steps.frozen, steps.seeds, 0, step)
        found.append(float(metrics["loss"]))
    return found


@pytest.fixture(scope="module")
def with_all(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[TrialSteps, list[float]]]:
    """A strategy -> its steps with all savings, and their losses; made once."""

    @cache
    def made(strategy: str) -> tuple[TrialSteps, list[float]]:
        steps = TrialSteps(replace(trial, strategy=strategy), str(tmp_path_factory.mktemp(strategy)))
        return steps, losses(steps)

    return made


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "product", layers.product)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", ["lookback", "prompt_once", "pooled", "cache", "products"])
def test_a_switch_changes_the_cost_only(trial: Trial, with_all: Any, tmp_path: Path, name: str) -> None:
    base, expected = with_all(savings.SAVINGS[name].strategy)
    other = TrialSteps(replace(base.trial, without=name), str(tmp_path))
    # float32 sums in another order; a wrong mask, position or gradient moves these losses by far more
    assert losses(other) == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(other.lengths, base.lengths)
    computed = [steps.batches.shapes[0].cost for steps in (base, other)]
    assert (computed[1] > computed[0]) == (name == "prompt_once")
    assert (base.batches.data.depth, other.batches.data.depth) == ((1, 0) if name == "cache" else (0, 0))
    assert (layers.product is plain_product) == (name == "products")


def test_without_lookback_every_block_reaches_as_far() -> None:
    batches = tiny.planned(tiny.random_split([150, *[20] * 31]), batch_size=32)
    (shape,), (changed,) = batches.shapes, CHANGES["lookback"].batches(batches).shapes
    blocks = shape.reach[0]
    assert 0 < shape.reach[1] < blocks  # the text of 150 tokens begins 4 blocks before it ends, the others at most 1
    assert shape.reach[2:] == (0,) * len(shape.reach[2:])
    assert changed.reach == (blocks, blocks, *shape.reach[2:])
    assert shape.cost < changed.cost


def test_padding_counts_real_tokens_only(trial: Trial, tmp_path: Path) -> None:
    steps = TrialSteps(replace(trial, without="packing"), str(tmp_path))
    width = trial.batch_size * 128
    assert [shape.tokens for shape in steps.batches.shapes] == [width]
    assert steps.measure(0).tokens == steps.lengths[steps.rows(0)].sum() < width
    assert steps.waste == pytest.approx(1 - steps.lengths.mean() / 128)


def test_lengths_grow_by_cutting_anew() -> None:
    texts = Ragged.of([[1, 2], [3, 4, 5, 6], [7, 8, 9]])
    longer = resized(texts, mean=6, most=7)
    assert longer.lengths.tolist() == [4, 7, 6]  # 8 is too long
    assert longer.ids.tolist() == [*range(1, 10), *range(1, 9)]


def test_undonated_steps_keep_their_arguments() -> None:
    one = CHANGES["donation"].devices(tiny.devices().mode, tiny.devices().devices)
    assert isinstance(one, Devices)
    state = one.state(np.ones(2, np.float32))
    step: Any = one.compile(lambda state, frozen, batch: state + 1, state, (), one.batch(np.zeros((1, 1))), donate=True)
    step(state, (), one.batch(np.zeros((1, 1))))
    assert state.tolist() == [1, 1]  # a donated one is deleted


def test_parallel_seeds_count_all_their_tokens(trial: Trial, tmp_path: Path) -> None:
    steps = TrialSteps(replace(trial, seeds=2, runs=2), str(tmp_path))
    rows = np.concatenate([steps.batches.rows(seed, 0, 0) for seed in (42, 43)])
    assert steps.measure(0)[1:] == (steps.lengths[rows].sum(), 2 * trial.batch_size)


# What is written


def result(speed: float, compile_seconds: float = 8.0, preparation: Any = {}) -> Result:  # noqa: B006 (never changed)
    facts = {
        "memory_bytes": 2**30,
        "compile_seconds": compile_seconds,
        "cache_seconds": 0.0,
        "waste": 0.25,
        "preparation": preparation,
        "flops": [1e9, 2e9, 9e9],
        "peak_flops_per_second": 1e10,
        "on": {"backend": "cpu", "device": "cpu"},
    }
    return Result(
        facts, [Sample(1.0, int(speed / 9), 2), Sample(2.0, int(2 * speed), 2), Sample(1.0, int(9 * speed), 2)]
    )


def test_records_are_of_medians() -> None:
    record = result(90.0).record
    assert (record["tokens_per_second"], record["least"], record["most"]) == (90, 10, 810)
    assert (record["texts_per_second"], record["flops_per_second"]) == (2, 1e9)
    entries = {"a": {**record, "trial": {"dtype": "float32"}}}
    entries["b"] = {**entries["a"], "peak_flops_per_second": 2e10}
    assert throughput.utilisation({"entries": entries}, entries["a"]) == 1e9 / 2e10  # of the best


def test_gains_are_above_one_where_a_saving_saves() -> None:
    assert savings.row("", Trial(), result(90), result(45))["gain"] == 2
    assert savings.row("", Trial(), result(90, 2.0), result(90, 8.0), "compile_seconds")["gain"] == 4


def test_the_command_writes_a_table_and_a_picture(trial: Trial, tmp_path: Path) -> None:
    """One configuration of one layer, in its process."""
    body = json.dumps({**trial.body, "n_layer": 1})
    where = ["--data", trial.data, "--tokenizer", trial.tokenizer, "--results", str(tmp_path), "--device", "cpu"]
    what = ["--models", body, "--batch_sizes", "2", "--shapes", "1", "--strategies", "full", "--dtypes", "float32"]
    told = [sys.executable, "-m", "benchmarks.throughput", *where, *what, "--repeats", "2"]
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(told, cwd=ROOT, env=alone, check=True, capture_output=True)
    record = json.loads((tmp_path / "throughput.json").read_text())
    (entry,) = record["entries"].values()
    assert len(entry["samples"]) == 2
    assert min(entry["tokens_per_second"], entry["memory_bytes"], entry["compile_seconds"]) > 0
    assert 0 < throughput.utilisation(record, entry) < 1
    assert "| full | 2 | float32 |" in (tmp_path / "throughput.md").read_text()
    assert (tmp_path / "throughput.png").read_bytes().startswith(PNG)


def test_growth_is_told_beside_the_first(trial: Trial) -> None:
    told = ["--lengths", "25", "50", "--rows", "40", "--model", BODY, "--data", trial.data]
    options = growth.parser().parse_args([*told, "--tokenizer", trial.tokenizer])
    trials = growth.trials("length", options)
    assert [t.mean_length for t in trials.values()] == [25, 50]
    assert [t.body["n_layer"] for t in growth.trials("layers", options).values()] == [2, 4, 8, 12]
    points = [growth.entry(*item, result(speed)) for item, speed in zip(trials.items(), (90, 45), strict=True)]
    assert points[0]["microseconds"]["median"] == pytest.approx(1e6 / 90)
    data = [growth.entry(40, trial, result(90, preparation={"reading": 1.0, "tokenizing": 2.0, "planning": 3.0}))]
    settings = {"repeats": 3, "batch_size": 6, "model": BODY}
    record = {"made": MADE, "settings": settings, "entries": {"length": points, "data": data}}
    page = growth.page(record)
    assert "| 50 | 22222.2 [2469.1 - 200000.0] | 2.00 | 1.00 | 25 % |" in page
    assert "| 40 | 11111.1 [1234.6 - 100000.0] | 1.00 | 1.00 | 25 % | 1.00 | 2.00 | 3.00 |" in page
    assert growth.picture(record).startswith(PNG)


def test_reading_tokenizing_and_planning_are_measured_apart(trial: Trial, tmp_path: Path) -> None:
    seconds = preparation(arguments.parse(trial_flags(trial, str(tmp_path))).config)
    assert list(seconds) == ["reading", "tokenizing", "planning"]
    assert min(seconds.values()) > 0


def test_savings_are_written_as_a_table_and_a_picture() -> None:
    row = savings.row("padded", Trial(), result(90), result(45))
    record = {
        "made": MADE,
        "settings": {"repeats": 3, "shapes": 2},
        "entries": {"packing": row},
    }
    assert "| packing | padded | full, float32, 124M, batch 32 |" in savings.page(record)
    assert " | 2.00 | 1.00 / 1.00 | 25 % / 25 % |" in savings.page(record)
    assert savings.picture(record).startswith(PNG)


def test_every_switch_is_a_row() -> None:
    assert {*CHANGES, "parallel_seeds"} == set(savings.NAMES)


def test_commands_import_no_jax() -> None:
    """A worker imports its parent's modules before its environment is set; JAX reads that when it is imported."""
    asked = "import sys, benchmarks.throughput, benchmarks.growth; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT).returncode == 0
