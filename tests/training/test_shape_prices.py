"""What a shape costs and saves: few shapes for small experiments, many where hours follow, the same ones every time."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny import devices

from flax_agnews.config import TrainConfig
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Split
from flax_agnews.data.shapes import EPOCHS, MOST
from flax_agnews.data.tokens import Ragged
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.training.batch_plans import plan_batches, plan_evaluation
from flax_agnews.training.shape_prices import Prices, counted_epochs

SMALL = GPT2Config(vocab_size=2048, n_positions=128, n_embd=128, n_layer=3, n_head=4)
"""The body of the configuration `quickstart`."""

PUBLISHED = GPT2Config()
"""GPT-2 of 124M parameters."""


def news(rows: int) -> Split:
    """Texts as long as those of AG News: 52 tokens on average, few above 100."""
    lengths = np.clip(np.random.default_rng(7).lognormal(3.9, 0.35, rows), 8, 256).astype(int)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Split(Ragged(np.zeros(offsets[-1], np.int32), offsets), np.zeros(rows, np.int32))


def planned(rows: int, body: GPT2Config, platform: str = "cpu", runs: int = 3, **train: object) -> TrainBatches:
    settings = TrainConfig(**{"epochs": 5, "runs": runs, **train})
    prices = Prices(platform, body, "float32")
    return plan_batches(news(rows), settings, range(42, 42 + runs), devices(), prices)


def test_small_experiments_get_one_shape_or_two() -> None:
    """As large as the configurations `smoke` and `quickstart`; and six for ten times as many texts and epochs."""
    steps = {"runs": 2, "batch_size": 32, "schedule": "linear", "warmup_fraction": 0.05}
    assert len(planned(240, replace(SMALL, n_embd=32, n_layer=2), epochs=2, **steps).shapes) == 1
    assert len(planned(4000, SMALL, epochs=2, **steps).shapes) <= 2
    assert len(planned(40_000, SMALL, epochs=20, **steps).shapes) >= MOST  # and what later epochs add


def test_the_most_where_hours_follow() -> None:
    """Five epochs of 67,637 texts, three runs of each strategy: days on two cores."""
    batches = planned(67_637, PUBLISHED)
    assert len(batches.shapes) == MOST
    assert batches.choice is not None
    assert batches.choice.shapes == MOST


def test_a_gpu_computes_faster_than_it_compiles() -> None:
    for rows, body in itertools.product((500, 8000), (SMALL, PUBLISHED)):
        ours, theirs = (len(planned(rows, body, platform).shapes) for platform in ("gpu", "cpu"))
        assert ours <= theirs
    assert len(planned(8000, PUBLISHED, "gpu").shapes) < len(planned(8000, PUBLISHED, "cpu").shapes)
    assert Prices("tpu", SMALL, "float32").evaluation(1) == Prices("gpu", SMALL, "float32").evaluation(1)


def test_more_runs_and_larger_bodies_get_no_fewer_shapes() -> None:
    by_runs = [len(planned(1000, SMALL, runs=runs, batch_size=16).shapes) for runs in (1, 2, 4, 8)]
    by_width = [
        len(planned(1000, replace(SMALL, n_embd=width), batch_size=16).shapes) for width in (32, 128, 512, 1024)
    ]
    assert by_runs == sorted(by_runs)
    assert by_width == sorted(by_width)
    assert by_width[0] < by_width[-1]


@pytest.mark.parametrize("shapes", [1, 3, 6])
def test_a_given_number_is_kept(shapes: int) -> None:
    batches = planned(1000, PUBLISHED, "gpu", batch_size=16, shapes=shapes)
    assert len(batches.shapes) == shapes
    assert batches.choice is None


def test_epochs_count_only_where_a_run_cant_go_on_for_more() -> None:
    """A constant rate: two epochs and then three more must end with the bytes of five at once."""
    for epochs in (1, 2, EPOCHS, 40):
        assert counted_epochs(TrainConfig(epochs=epochs)) == EPOCHS
        assert counted_epochs(TrainConfig(epochs=epochs, schedule="cosine")) == epochs
        assert counted_epochs(TrainConfig(epochs=epochs, warmup_fraction=0.1)) == epochs
    few, many = (planned(2000, SMALL, epochs=epochs, batch_size=16) for epochs in (1, EPOCHS))
    assert few.shapes == many.shapes
    few, many = (planned(2000, SMALL, epochs=epochs, batch_size=16, schedule="linear") for epochs in (1, EPOCHS))
    assert len(few.shapes) < len(many.shapes)


def test_evaluation_follows_the_same_rule() -> None:
    train, prices = TrainConfig(eval_batch_size=32), Prices("cpu", SMALL, "float32")
    numbers = [len(plan_evaluation(news(500), train, devices(), prices, passes).shapes) for passes in (1, 100, 10**5)]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1
    assert numbers[-1] > 2
    given = plan_evaluation(news(500), replace(train, shapes=6), devices(), prices, 10**5)
    assert given.shapes == plan_evaluation(news(500), train, devices()).shapes  # as before there was a choice


PRINT = """
import sys
sys.path[:0] = sys.argv[1:]
from training.test_shape_prices import SMALL, planned
print(planned(3000, SMALL, batch_size=8).shapes)
"""


def test_another_process_chooses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    command = [sys.executable, "-c", PRINT, str(tests)]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(planned(3000, SMALL, batch_size=8).shapes)
