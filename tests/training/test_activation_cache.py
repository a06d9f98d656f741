"""The cache of frozen activations: contract 4, what may be cached, and files that are stale, damaged or too large."""

import os
import shutil
import signal
import time
from dataclasses import replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from contracts.test_every_strategy import RATES, compiled_gradients, doubles
from flax import nnx
from support import naive, tiny
from support.bounds import assert_same_leaves, assert_same_logits, assert_same_losses
from support.small_experiments import metrics, results, small, start, without_cost

from flax_agnews.cli import arguments
from flax_agnews.config import Config, ModelConfig, TrainConfig
from flax_agnews.data.encoded import Data
from flax_agnews.data.tokens import Ragged
from flax_agnews.experiment.experiment import Experiment, Stopped
from flax_agnews.main import main
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.strategies import Strategy
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.frozen_layers import Trunk, frozen_depth
from flax_agnews.training.program import Program, plan_batches

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


# Contract 4

ARRANGEMENTS = {  # devices, mode, tokens of a micro-batch, seeds
    "one": (1, "jit", 16384, (0,)),
    "jit-2-micro": (2, "jit", 100, (0,)),
    "pmap-2": (2, "pmap", 16384, (0,)),
    "two-seeds": (1, "jit", 16384, (0, 1)),
}


def program_of(name, arrangement, evaluated=False, **train):
    count, mode, micro_batch_tokens, seeds = ARRANGEMENTS[arrangement]
    setup, where = setup_of(name), tiny.devices(count, mode)
    train = {"micro_batch_tokens": micro_batch_tokens, "parallel_seeds": len(seeds), **train}
    inputs, _ = read(setup, where, seeds=seeds, **train)
    assert inputs.batches.data.depth == (0 if train["cache_frozen"] == "off" else DEPTHS[name])
    shared = where.shared(dict(setup.model.base.parameters))
    splits = inputs.evaluated if evaluated else {}
    return Program(setup, where, shared, replace(inputs, evaluated=splits), group_sizes=[len(seeds)]), seeds


def losses(program, seeds):
    """Of 20 steps: [steps, seeds]. Each epoch's last batch has only 3 texts."""
    state, frozen = program.start_together(seeds)
    found = []
    for number in range(20):
        epoch, step = divmod(number, program.batches.steps_per_epoch)
        state, values = program.train_together(state, frozen, seeds, epoch, step)
        found.append(np.atleast_1d(values["loss"]) / np.atleast_1d(values["weight"]))
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "arrangement"),
    [
        *(("partial", a) for a in ARRANGEMENTS),
        *(pytest.param("head", a, marks=pytest.mark.long) for a in ARRANGEMENTS),
        *(pytest.param(name, "jit-2-micro", marks=pytest.mark.long) for name in ("norm", "lora")),
        pytest.param("three", "one", marks=pytest.mark.long),
    ],
)
def test_cached_is_computed_anew(name, arrangement):
    (anew, seeds), (cached, _) = (program_of(name, arrangement, cache_frozen=how) for how in ("off", "on"))
    state, frozen = cached.start(0)
    wheres = [(program, program.devices) for program in (cached, anew)]
    (sums, ours), (expected_sums, expected) = (
        compiled_gradients(program.setup, where, program.batches)(state, frozen, 0) for program, where in wheres
    )
    assert_same_leaves(ours, expected)
    assert all(np.linalg.norm(g) > 0 for path, g in ours.items() if not path.endswith("/lora_a"))  # lora_b begins as 0
    assert_same_losses(sums["loss"], expected_sums["loss"])
    ours, expected = losses(cached, seeds), losses(anew, seeds)
    assert_same_losses(ours, expected)
    assert len(np.unique(expected)) == expected.size  # so that no update's texts would pass for another's


@pytest.mark.parametrize("name", DEPTHS)
def test_logits_are_the_naive_ones(name):
    program, _ = program_of(name, "one", evaluated=True, cache_frozen="on")
    state, frozen = program.start(0)
    exact = doubles({**state.params, **frozen})
    for split, texts in (("validation", DATA.validation), ("test", DATA.test)):
        alone = [naive.logits(exact, texts.tokens[row], CONFIG) for row in range(len(texts))]
        assert_same_logits(program.evaluate(state.params, frozen, split), alone)


def test_a_bfloat16_cache_is_its_float32_rounded():
    single, half = (read(setup_of("partial"), cache_dtype=kind)[0] for kind in ("float32", "bfloat16"))
    single, half = single.batches.data.ids, half.batches.data.ids
    assert half.dtype == jnp.bfloat16
    assert half.tobytes() == np.asarray(single, jnp.bfloat16).tobytes()


def test_updates_have_the_same_texts_and_the_real_lengths_count(tmp_path):
    found = {}
    for how in ("on", "off"):
        config = arguments.parse(small(tmp_path / how, "--strategy", "full", "--train.cache_frozen", how)).config
        config.strategy, config.strategies = "two", {}
        Experiment(
            config, [strategy("head"), Strategy.by_pattern("top", {"/(wte|wpe|h/0)/": "frozen", ".*": rate})]
        ).run()
        found[how] = results(tmp_path / how)
    for ours, plain in zip(found["on"]["runs"], found["off"]["runs"], strict=True):
        counts = [run["cost"]["tokens_per_second"] * run["cost"]["train_seconds"] for run in (ours, plain)]
        assert counts[0] == pytest.approx(2 * 72 * found["on"]["data"]["tokens_per_text"], rel=1e-9)  # two epochs
        assert counts[1] == pytest.approx(counts[0], rel=1e-9)
        assert (ours["cost"]["cache_seconds"] > 0, plain["cost"]["cache_seconds"]) == (True, 0)
        assert ours["test_accuracy"] == plain["test_accuracy"]
        for loss in ("train_loss", "val_loss"):
            assert_same_losses(ours[loss], plain[loss])


# What may be cached


def depth_of(strategy, shared=True, layers=LAYERS, **settings):
    config = replace(CONFIG, n_layer=layers)
    base = tiny.random_base(config)
    strategy = tiny.build(strategy, config) if isinstance(strategy, str) else strategy
    setup = tiny.prepare(strategy, base, **settings)
    return frozen_depth(setup, {p: jnp.asarray(v) for p, v in base.parameters.items()} if shared else None)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("name", "layers", "depth"),
    [
        *((name, 4, 0) for name in tiny.STRATEGIES if name not in ("partial", "head")),
        ("partial", 4, 2),
        ("partial", 5, 2),
        ("head", 4, 4),
    ],
)
def test_registered_strategies_have_their_depth(name, layers, depth, shared):
    assert depth_of(name, shared, layers) == depth


def test_what_trains_limits_the_depth():
    assert depth_of(tiny.build("partial", CONFIG, frozen_fraction=1.0)) == LAYERS
    for placement in ("houlsby", "pfeiffer"):
        assert depth_of(tiny.build("adapter", CONFIG, placement=placement, top_layers=1)) == LAYERS - 1
    assert depth_of(tiny.build("lora", CONFIG, top_layers=3)) == LAYERS - 3
    for pattern in ("/wte/", "/wpe/", "/h/0/ln_1/bias"):
        assert depth_of(Strategy.by_pattern("one", {pattern: rate, ".*": "frozen"})) == 0
    assert depth_of(Strategy.by_pattern("one", {"/h/2/mlp/c_fc/bias": rate, ".*": "frozen"})) == 2


def test_dropout_in_frozen_layers_leaves_nothing_to_cache():
    assert depth_of("partial", dropout_frozen=True, dropout=0.1) == 0
    assert depth_of("partial", dropout_frozen=True, dropout=0.0) == 2


def adapted(change):
    """A trained head on a body that is changed."""

    def adapt(model, key):
        model = nnx.clone(model)
        change(model)
        return model

    return Strategy.by_pattern("adapted", {"^score/": rate, ".*": "frozen"}, adapt=adapt)


def _scale(linear):
    linear.kernel = nnx.Param(linear.kernel[...] * 1.0)  # even to the same values, in memory of its own


class Otherwise(ClassifierModule):
    """Might do anything with its parts."""


CHANGES = {
    "an adapter in layer 2": (lambda m: setattr(m.transformer.h[2], "adapter", nnx.Param(jnp.ones(3))), 2),
    "an adapter in layer 0": (lambda m: setattr(m.transformer.h[0], "adapter", nnx.Param(jnp.ones(3))), 0),
    "something beside the body": (lambda m: setattr(m, "extra", nnx.Param(jnp.ones(3))), 0),
    "other values in layer 1": (lambda m: _scale(m.transformer.h[1].mlp.c_fc), 1),
    "another function in layer 3": (lambda m: setattr(m.transformer.h[3].mlp, "activation", "relu"), 3),
    "another vocabulary": (
        lambda m: setattr(m.transformer.wte, "embedding", nnx.Param(m.transformer.wte.embedding[...] + 1)),
        0,
    ),
    "a layer less": (lambda m: setattr(m.transformer, "h", nnx.List(m.transformer.h[:3])), 0),
    "another way to classify": (lambda m: setattr(m, "__class__", Otherwise), 0),
    "nothing": (lambda m: None, LAYERS),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_strategy_changes_limits_the_depth(change):
    what, depth = CHANGES[change]
    assert depth_of(adapted(what)) == depth


# Its key


def test_the_key_names_texts_lower_weights_types_and_depth():
    setup = setup_of("partial")
    texts, base = DATA.train.tokens, setup.model.base

    def key(texts=texts, depth=2, dtype="float32", compute="float32", **weights):
        parameters = {**base.parameters, **{path.replace("__", "/"): value for path, value in weights.items()}}
        return Trunk(replace(base, parameters=parameters), depth, jnp.dtype(compute)).key(texts, np.dtype(dtype))

    def changed(path):
        return {path: base.parameters[path] + np.float32(1)}

    assert key() == key(**changed("transformer/h/2/mlp/c_fc/kernel")) == key()
    ids = texts.ids.copy()
    ids[5] += 1
    offsets = texts.offsets.copy()
    offsets[1] += 1
    others = [
        key(Ragged(ids, texts.offsets)),
        key(Ragged(texts.ids, offsets)),
        key(depth=1),
        key(dtype="float16"),
        key(compute="bfloat16"),
        *(key(**changed(f"transformer/{p}")) for p in ("wte/embedding", "wpe/embedding", "h/1/attn/c_proj/bias")),
    ]
    assert len({key(), *others}) == 1 + len(others)


# Whole experiments

FLAGS = ("--strategy", "partial", "--train.runs", 1, "--train.batch_size", 2, "--data.limit_train", 400)
PER_EPOCH = 180  # 360 texts that train


def test_stopped_and_resumed_is_uninterrupted(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(small(whole, *FLAGS)) == 0
    lines = parts / "partial" / "seed-42" / "metrics.jsonl"
    process = start(small(parts, *FLAGS), os.environ)
    end = time.monotonic() + 120
    while not (lines.exists() and lines.read_text().count('{"step"') > 20):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "caching" not in out  # the whole run's cache was there
    assert 20 < len(metrics(lines.parent)[0]) < 2 * PER_EPOCH
    shutil.rmtree(folder)
    assert main(small(parts, *FLAGS)) == 0
    assert len(contents(folder)) == 3
    assert lines.read_bytes() == (whole / "partial" / "seed-42" / "metrics.jsonl").read_bytes()
    assert without_cost(results(parts)) == without_cost(results(whole))


def test_a_signal_stops_the_caching(folder, tmp_path, capsys):
    config = arguments.parse(small(tmp_path / "out", "--strategy", "partial")).config
    experiment = Experiment(config, [tiny.REGISTRY["partial"]])
    experiment.interrupt.asked = signal.SIGINT
    with pytest.raises(Stopped) as caught:
        experiment.compile(experiment.setups[0])
    assert (caught.value.where, caught.value.signal) == ("stopped while caching", signal.SIGINT)
    assert contents(folder) == {}
    out = capsys.readouterr().out
    assert "partial: caching the lower 1 of 2 layers: " in out
