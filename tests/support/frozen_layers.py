"""Strategies with frozen lower layers, their data, and what is read and kept of the frozen activations."""

from dataclasses import replace
from functools import cache

import pytest

from flax_agnews.config import Config, ModelConfig, TrainConfig
from flax_agnews.data.encoded import Data
from flax_agnews.strategies import Strategy
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from support import tiny
from support.strategy_setups import RATES

LAYERS = 4
CONFIG = replace(tiny.CONFIG, n_layer=LAYERS)
LENGTHS = tiny.random_lengths(35, longest=90)
DATA = Data(
    "tiny",
    [str(i) for i in range(tiny.CLASSES)],
    tiny.random_split(LENGTHS),
    tiny.random_split(tiny.random_lengths(9, longest=60), seed=1),
    tiny.random_split(tiny.random_lengths(11, longest=60), seed=2),
)


def rate(plan):
    return plan.adamw(1e-3)


def strategy(name):
    patterns = {
        "head": {"^score/": rate, ".*": "frozen"},
        "norm": {"^score/|/ln_f/": rate, ".*": "frozen"},
        "three": {"/(wte|wpe|h/[012])/": "frozen", ".*": rate},
    }
    if name in patterns:
        return Strategy.by_pattern(name, patterns[name])
    return tiny.build(name, CONFIG, **({"top_layers": 2} if name == "lora" else {}))


DEPTHS = {"partial": 2, "three": 3, "head": 4, "norm": 4, "lora": 2}


@cache
def setup_of(name):
    """With dropout above the frozen layers, at a rate of its own at each kind of site."""
    embd, attn, resid = RATES
    base = tiny.random_base(replace(CONFIG, embd_pdrop=embd, attn_pdrop=attn, resid_pdrop=resid))
    return tiny.prepare(strategy(name), base, dropout=None)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where caches are in this test."""
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "activations"


def read(setup, where=None, told=None, seeds=(0,), model=None, data=DATA, **train):
    """(what the program reads, the batches of token ids) of a new process, as far as caches know."""
    where = where or tiny.devices()
    settings = TrainConfig(**{"batch_size": 8, "eval_batch_size": 5, "shapes": 1, "epochs": 4, **train})
    batches = plan_batches(data.train, settings, seeds, where)
    activations = Activations(Config(train=settings, model=model or ModelConfig()), data, where)
    shared = where.shared(dict(setup.model.base.parameters))
    return activations.inputs(setup, shared, batches, told), batches


def contents(folder):
    """Key -> bytes of every array that is kept."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/values")}
