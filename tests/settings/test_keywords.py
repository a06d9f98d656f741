"""Wrong arguments of the library's functions are one line each, before anything is read or computed."""

import dataclasses
from typing import Any

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

import flax_agnews
from flax_agnews.config import Config, DataConfig, ModelConfig, SearchConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.settings.keywords import check_config, train_settings
from flax_agnews.strategies import REGISTRY, Strategy

WRONG_TRAIN = [
    ({"epoch": 3}, "(epoch=...): no such training setting. Did you mean epochs?"),
    ({"max_length": 64}, "(max_length=...): no such training setting. It is one of data: give Config(data=DataConfig("),
    ({"epochs": "3"}, "(epochs='3'): must be a whole number"),
    ({"epochs": 2.5}, "(epochs=2.5): must be a whole number"),
    ({"epochs": True}, "(epochs=True): must be a whole number"),
    ({"epochs": 0}, "(epochs=0): must be 1 or more"),
    ({"schedule": "cosin"}, "(schedule='cosin'): must be constant or linear or cosine"),
    ({"clip_norm": "1"}, "(clip_norm='1'): must be a number or None"),
    ({"clip_norm": -1.0}, "(clip_norm=-1.0): must be above 0"),
    ({"weight_decay": None}, "(weight_decay=None): must be a number"),
    ({"deterministic": 1}, "(deterministic=1): must be true or false"),
    ({"batch_size": float("nan")}, "(batch_size=nan): must be a whole number"),
]


def _line(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        call()
    line = str(caught.value)
    assert line.isprintable()
    return line


@pytest.mark.parametrize(("given", "told"), WRONG_TRAIN, ids=[str(given) for given, _ in WRONG_TRAIN])
def test_training_settings_of_fit_and_describe(given: dict[str, Any], told: str) -> None:
    assert _line(lambda: flax_agnews.fit("head", data="builtin", **given)).startswith(f"fit{told}")
    assert _line(lambda: flax_agnews.describe("head", **given)).startswith(f"describe{told}")


def test_fit_is_one_run() -> None:
    assert _line(lambda: flax_agnews.fit("head", runs=5)).startswith("fit(runs=5): fit is one run; call it once for ")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: flax_agnews.fit(3), "strategy 3: must be a registered name, an entry such as lora(rank=4), settings"),
        (lambda: flax_agnews.fit(REGISTRY["head"].settings), "strategy <class 'flax_agnews.strategies.head"),
        (lambda: flax_agnews.fit(REGISTRY["head"](rate=1)), "head(rate=1): no such setting. Known: learning_rate."),
        (lambda: flax_agnews.fit("heed"), "strategy heed: no such strategy. Did you mean head"),
        (lambda: flax_agnews.fit("head", data=["a"]), "fit(data=['a']): must be"),
        (lambda: flax_agnews.fit("head", model=3), "fit(model=3): must be"),
        (lambda: flax_agnews.fit("head", output=3), "fit(output=3): must be a folder"),
        (lambda: flax_agnews.fit("head", config={"train": {}}), "fit(config={'train': {}}): must be a Config"),
        (lambda: flax_agnews.fit("head", seed=-1), "fit(seed=-1): must be 0 to "),
        (lambda: flax_agnews.fit("head", seed="a"), "fit(seed='a'): must be a whole number"),
        (lambda: flax_agnews.describe("head", classes=0), "describe(classes=0): must be 1 or more"),
        (lambda: flax_agnews.describe("head", classes=2.5), "describe(classes=2.5): must be a whole number"),
        (lambda: flax_agnews.describe(None), "strategy None: must be"),
        (lambda: flax_agnews.describe("head", model=7), "describe(model=7): must be"),
        (lambda: flax_agnews.layers("0", 3), "layers('0', 3): must be two whole numbers"),
        (lambda: flax_agnews.load_base("gpt2"), "load_base(config='gpt2'): must be a ModelConfig"),
        (lambda: flax_agnews.write_report(None), "write_report(folder=None): must be"),
        (lambda: flax_agnews.Classifier.load("nowhere", strategy="fulll"), "strategy fulll: no such strategy. Did"),
        (lambda: flax_agnews.Classifier.load("nowhere", strategy=3), "strategy 3: must be"),
        (lambda: flax_agnews.Classifier.load("nowhere", strategy="full"), "nowhere: is neither an output folder nor"),
    ],
)
def test_other_arguments(call: Any, told: str) -> None:
    assert _line(call).startswith(told)


def _mine(name: str = "mine") -> Strategy:
    return Strategy.by_pattern(name, {"score": optax.sgd(0.1), "": "frozen"})


@pytest.mark.parametrize(
    ("config", "strategies", "told"),
    [
        (Config(), [], "Experiment(strategies=[]): must have a strategy to run"),
        (Config(), ["fulll"], "strategy fulll: no such strategy. Did you mean full?"),
        (Config(), [3], "strategy 3: must be a registered name"),
        (Config(), ["head", REGISTRY["head"](learning_rate=1)], "Experiment(strategies=...): two strategies"),
        (Config(), "full", "Experiment(strategies='full'): must be a list"),
        (Config(), _mine(), "Experiment(strategies=Strategy("),
        (Config(), [_mine(), _mine()], "Experiment(strategies=...): two strategies are called mine"),
        ({}, [_mine()], "{}: must be a Config"),
        (Config(train={"epochs": 3}), [_mine()], "Config(train={'epochs': 3}): must be a TrainConfig"),
        (Config(train=TrainConfig(epochs="3")), [_mine()], "train.epochs '3': must be a whole number"),
        (Config(train=TrainConfig(schedule="cosin")), [_mine()], "train.schedule 'cosin': must be constant or"),
        (Config(model=ModelConfig(dtype="f32")), [_mine()], "model.dtype 'f32': must be float32 or bfloat16"),
        (Config(search=SearchConfig(trials=1)), [_mine()], "search.trials 1: must be 0, or 2 to 15"),
        (Config(data=DataConfig(max_length=None)), [_mine()], "data.max_length None: must be a whole number"),
        (Config(output=3), [_mine()], "output 3: must be a text"),
        (Config(strategies={"head": {}}), [REGISTRY["head"]], "Config(strategies={'head': {}}): must be a HeadSett"),
    ],
)
def test_experiments(config: Any, strategies: Any, told: str) -> None:
    line = _line(lambda: Experiment(config, strategies))
    assert line.startswith(told)


def test_what_is_right_passes_and_is_as_it_was_given() -> None:
    check_config(Config())
    given = {"epochs": np.int64(3), "clip_norm": np.float32(0.5), "class_weights": "balanced", "early_stopping": None}
    made = train_settings("fit", given, TrainConfig(batch_size=7), {})
    assert made == TrainConfig(batch_size=7, epochs=3, clip_norm=0.5, class_weights="balanced")
    assert type(made.epochs) is int
    assert type(made.clip_norm) is float


names = st.text(max_size=12)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers()))


@given(names | st.sampled_from([field.name for field in dataclasses.fields(TrainConfig)]), values)
def test_any_name_and_value_is_taken_or_one_line(name: str, value: Any) -> None:
    line, made = None, None
    try:
        made = train_settings("fit", {name: value}, TrainConfig(), {})
    except UserError as error:
        line = str(error)
    if made is None:
        assert line.startswith("fit(")
        assert line.isprintable()
    else:
        assert getattr(made, name) == value
        check_config(Config(train=made))


def test_settings_that_differ_describe_other_decays() -> None:
    """What is checked arrives: the decay that the table shows is the one that was given."""
    base = ModelConfig(from_config=dataclasses.asdict(tiny.CONFIG))
    rows = flax_agnews.describe("full", base, weight_decay=0.25).rows
    assert {round(row.decay, 4) for row in rows} == {0.25}
