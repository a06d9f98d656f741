"""Training on cached activations of frozen layers is training on token ids (contract 4), also when resumed."""

import os
import shutil
import signal
import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from support import naive, tiny
from support.bounds import assert_same_leaves, assert_same_logits, assert_same_losses
from support.frozen_layers import CONFIG, DATA, DEPTHS, contents, folder, rate, read, setup_of, strategy
from support.small_experiments import metrics, results, small, start, without_cost
from support.strategy_setups import doubles, gradients_of

from flax_agnews.cli import arguments
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.strategies import Strategy
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training.program import Program

__all__ = ["folder"]  # fixtures


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
    inputs = replace(inputs, evaluated=splits)
    program = Program(setup, where, shared, inputs, group_sizes=[len(seeds)], compiler=tiny.compiler(where))
    return program, seeds


def losses(program, seeds):
    """Of 20 steps: [steps, seeds]. Each epoch's last batch has only 3 texts."""
    state, frozen = program.start_together(seeds)
    found = []
    for number in range(20):
        epoch, step = divmod(number, program.batches.steps_per_epoch)
        state, values = program.train_together(state, frozen, seeds, epoch, step)
        found.append(np.atleast_1d(values["loss"]) / np.atleast_1d(values["weight"]))
    return np.array(found)


@pytest.mark.optimized
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
    state, frozen = cached.start_together(seeds)
    (sums, ours), (expected_sums, expected) = (gradients_of(p, state, frozen, seeds) for p in (cached, anew))
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


# Its key


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
