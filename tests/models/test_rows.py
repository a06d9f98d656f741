"""Attention with a row for each text gives the results of attention in blocks, and of the naive way."""

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import naive, tiny
from support.attention_in_rows import SEED, SHAPE, assert_rounds_like, logits_and_gradients, setup_of
from support.bounds import assert_same_leaves, assert_same_logits
from support.computes import ON_GPU, ON_GPU_IN_ROWS, ROWS
from support.strategy_setups import compiled_gradients, doubles, shared

from flax_agnews.models.compute import FLOAT32
from flax_agnews.training.state import create_state

WITH_PREFIX = ["prompt", "prefix"]
several_strategies = pytest.mark.parametrize("name", ["full", "partial", *WITH_PREFIX])


# Contracts 1, 3, 5 and 10: rows are the naive way, and blocks


@cache
def forward(name):
    setup = setup_of(name, ROWS)
    state, frozen = create_state(setup, shared(setup), SEED)
    weights = {**state.params, **frozen}
    return doubles(weights), jax.jit(lambda batch: setup.model.frame.merge(weights)(batch, None, ROWS))


@pytest.mark.parametrize("name", ["full", *WITH_PREFIX])
@settings(max_examples=12, deadline=None)
@example([1])
@example([tiny.LONGEST])
@example([63, tiny.LONGEST, 1, tiny.LONGEST, 1, 1, 64, 65])
@given(st.lists(st.integers(1, tiny.LONGEST), min_size=1, max_size=8))
def test_in_rows_a_text_has_the_logits_that_it_has_alone(name, lengths):
    lengths = [n for n, end in zip(lengths, np.cumsum(lengths), strict=True) if end <= SHAPE.tokens]
    split = tiny.random_split(lengths, seed=sum(lengths))
    exact, logits = forward(name)
    batch = tiny.whole(split, range(len(split)), SHAPE)
    alone = [naive.logits(exact, split.tokens[row], tiny.CONFIG) for row in range(len(split))]
    assert_same_logits(tiny.by_number(logits(batch), batch), alone, exact["score/kernel"])


@pytest.mark.parametrize(
    ("name", "dropout"), [(name, rate) for name in ("full", "partial", *WITH_PREFIX) for rate in (0.0, 0.1)]
)
def test_rows_give_the_logits_and_gradients_of_blocks(name, dropout):
    """With dropout on attention weights, rows are used where the last layer has one query a text."""
    logits, gradients = logits_and_gradients(name, ROWS, dropout)
    expected_logits, expected = logits_and_gradients(name, FLOAT32, dropout)
    assert_same_logits(logits, expected_logits)
    assert_same_leaves(gradients, expected)


def programs(name, dropout):
    """The text of the lowered gradients in rows, and in blocks."""
    found = []
    for compute in (ROWS, FLOAT32):
        setup = setup_of(name, compute, dropout)
        program = tiny.training(setup, tiny.random_split(tiny.random_lengths(8)), tiny.devices())
        found.append(next(iter(program._gradients.values())).wait().as_text())
    return found


def test_rows_are_another_program_unless_weights_are_dropped_in_every_layer_that_computes_all_tokens():
    """What is compared above is not the same way twice: without dropout, no scores of blocks are left."""
    scores = f",{tiny.CONFIG.n_head},32,"  # [blocks, heads, a block's 32 queries, keys]
    in_rows, in_blocks = programs("full", 0.0)
    assert scores in in_blocks
    assert scores not in in_rows
    assert scores in programs("full", 0.1)[0]


@several_strategies
@pytest.mark.long
def test_rows_in_bfloat16_round_as_blocks_do(name):
    assert_rounds_like(name, ON_GPU_IN_ROWS, ON_GPU)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.long
def test_rows_in_micro_batches_on_two_devices_give_the_gradients_of_blocks_on_one(mode):
    split = tiny.random_split(tiny.random_lengths(11))  # its last batch of three leaves a micro-batch empty

    def gradients(compute, where, micro_batch_tokens):
        setup = setup_of("partial", compute)
        batches = tiny.planned(split, devices=len(where), micro_batch_tokens=micro_batch_tokens, most_shapes=1)
        state, frozen = create_state(setup, where.shared(dict(setup.model.base.parameters)), SEED)
        step = compiled_gradients(setup, where, batches)
        ours = [step(where.state(state), where.shared(frozen), number) for number in range(2)]
        return batches.shapes[0].micro_batches, ours

    micro_batches, ours = gradients(ROWS, tiny.devices(2, mode), 100)
    assert micro_batches > 1
    for (sums, gradient), (expected_sums, expected) in zip(
        ours, gradients(FLOAT32, tiny.devices(), 16384)[1], strict=True
    ):
        np.testing.assert_allclose(sums["loss"], expected_sums["loss"], rtol=1e-5)  # roundings of float32
        assert_same_leaves(gradient, expected)


@pytest.mark.long
def test_seeds_side_by_side_train_in_rows_as_in_blocks():
    split = tiny.random_split(tiny.random_lengths(12, longest=90))

    def losses(compute):
        program = tiny.training(setup_of("partial", compute), split, tiny.devices(2), seeds=(0, 1), together=2)
        state, frozen = program.start_together([0, 1])
        return np.asarray(program.train_together(state, frozen, [0, 1], 0, 0)[1]["loss"])

    ours, expected = losses(ROWS), losses(FLOAT32)
    assert ours.shape == (2,)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)  # roundings of float32


# cuDNN itself


@several_strategies
def test_cudnn_gives_the_logits_and_gradients_of_rows(name):
    """In a process of its own: this one has only simulated CPU devices."""
    if not (shutil.which("nvidia-smi") and (find_spec("jax_cuda12_plugin") or find_spec("jax_cuda13_plugin"))):
        pytest.skip("cuDNN needs an NVIDIA GPU and JAX for it (the extra `cuda`), and there is none here")
    script = (
        "from dataclasses import replace\n"
        "from support.attention_in_rows import assert_rounds_like\n"
        "from support.computes import ON_GPU, ON_GPU_IN_ROWS\n"
        f"assert_rounds_like({name!r}, replace(ON_GPU, attention='cudnn'), ON_GPU_IN_ROWS)"
    )
    # float32 products in full, not in TF32, which would be no nearer than bfloat16's own rounding.
    environment = {**os.environ, "JAX_PLATFORMS": "cuda", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
