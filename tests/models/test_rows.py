"""Attention with a row for each text gives the results of attention in blocks; what it can't do is an error."""

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import naive, tiny
from support.attention_in_rows import SEED, SHAPE, STEP, assert_rounds_like, logits_and_gradients, mixed, setup_of
from support.bounds import assert_same_leaves, assert_same_logits
from support.strategy_setups import compiled_gradients, doubles, shared

from flax_agnews.data.batches import measure
from flax_agnews.data.shapes import BLOCK
from flax_agnews.errors import UserError
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.dropout import Noise, Rates
from flax_agnews.models.rows import check_attention, longest
from flax_agnews.training.frozen_layers import frozen_depth
from flax_agnews.training.state import create_state

two_strategies = pytest.mark.parametrize("name", ["full", "partial"])


# Rows are the naive way, and blocks


@cache
def forward():
    setup = setup_of("full", "rows")
    state, frozen = create_state(setup, shared(setup), SEED)
    weights = {**state.params, **frozen}
    return doubles(weights), jax.jit(lambda batch: setup.model.frame.merge(weights)(batch))


@settings(max_examples=12, deadline=None)
@example([1])
@example([tiny.LONGEST])
@example([63, tiny.LONGEST, 1, tiny.LONGEST, 1, 1, 64, 65])
@given(st.lists(st.integers(1, tiny.LONGEST), min_size=1, max_size=8))
def test_in_rows_a_text_has_the_logits_that_it_has_alone(lengths):
    lengths = [n for n, end in zip(lengths, np.cumsum(lengths), strict=True) if end <= SHAPE.tokens]
    split = tiny.random_split(lengths, seed=sum(lengths))
    exact, logits = forward()
    batch = tiny.whole(split, range(len(split)), SHAPE)
    alone = [naive.logits(exact, split.tokens[row], tiny.CONFIG) for row in range(len(split))]
    assert_same_logits(tiny.by_number(logits(batch), batch), alone, exact["score/kernel"])


@two_strategies
def test_rows_give_the_logits_and_gradients_of_blocks(name):
    logits, gradients = logits_and_gradients(name, "rows", "float32")
    expected_logits, expected = logits_and_gradients(name, "blocks", "float32")
    assert_same_logits(logits, expected_logits)
    assert_same_leaves(gradients, expected)


@two_strategies
@pytest.mark.long
def test_rows_in_bfloat16_round_as_blocks_do(name):
    assert_rounds_like(name, "rows", "blocks")


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.long
def test_rows_in_micro_batches_on_two_devices_give_the_gradients_of_blocks_on_one(mode):
    split = tiny.random_split(tiny.random_lengths(11))  # its last batch of three leaves a micro-batch empty

    def gradients(way, where, micro_batch_tokens):
        setup = setup_of("partial", way)
        batches = tiny.planned(split, devices=len(where), micro_batch_tokens=micro_batch_tokens, most_shapes=1)
        state, frozen = create_state(setup, where.shared(dict(setup.model.base.parameters)), SEED)
        step = compiled_gradients(setup, where, batches)
        ours = [step(where.state(state), where.shared(frozen), number) for number in range(2)]
        return batches.shapes[0].micro_batches, ours

    micro_batches, ours = gradients("rows", tiny.devices(2, mode), 100)
    assert micro_batches > 1
    for (sums, gradient), (expected_sums, expected) in zip(
        ours, gradients("blocks", tiny.devices(), 16384)[1], strict=True
    ):
        np.testing.assert_allclose(sums["loss"], expected_sums["loss"], rtol=1e-5)  # roundings of float32
        assert_same_leaves(gradient, expected)


@pytest.mark.long
def test_seeds_side_by_side_train_in_rows_as_in_blocks():
    split = tiny.random_split(tiny.random_lengths(12, longest=90))

    def losses(way):
        setup = setup_of("partial", way, dropout=0.0)
        program = tiny.training(setup, split, tiny.devices(2), seeds=(0, 1), together=2)
        state, frozen = program.start_together([0, 1])
        return np.asarray(program.train_together(state, frozen, [0, 1], 0, 0)[1]["loss"])

    ours, expected = losses("rows"), losses("blocks")
    assert ours.shape == (2,)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)  # roundings of float32


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_rows_are_as_long_as_the_longest_text_and_no_power_of_two_longer(lengths):
    reach = measure(np.array(lengths), devices=1, micro_batches=1).reach
    assert max(lengths) <= longest(reach) <= 2 * max(lengths) + 2 * BLOCK


def test_frozen_layers_are_as_many_whatever_the_attention():
    assert frozen_depth(setup_of("partial", "rows")) == frozen_depth(setup_of("partial", "auto")) > 0


def test_auto_is_blocks():
    assert (
        setup_of("full", "auto").model.frame
        == setup_of("full", "blocks").model.frame
        != setup_of("full", "rows").model.frame
    )


# Wrong combinations


@pytest.mark.parametrize("way", ["rows", "cudnn"])
@pytest.mark.parametrize(
    ("name", "dropout", "words"),
    [
        ("full", 0.1, ["full drops 0.1 of the attention weights", "model.dropout 0", "choose blocks"]),
        ("partial", 0.1, ["partial drops 0.1 of the attention weights", "model.dropout 0", "choose blocks"]),
        ("prompt", 0.0, ["prompt puts 5 tokens before every text", "choose blocks"]),
    ],
)
def test_rows_know_neither_dropout_on_attention_weights_nor_a_prompt(way, name, dropout, words):
    with pytest.raises(UserError, match=f"^model.attention {way}: ") as error:
        setup_of(name, way, "bfloat16", dropout)
    assert [word for word in words if word not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_cudnn_is_not_for_this_processor():
    message = "^model.attention cudnn: needs an NVIDIA GPU of compute capability 8.0 or newer, not cpu; choose rows or"
    with pytest.raises(UserError, match=message):
        setup_of("full", "cudnn", "bfloat16")


QUIET = Rates(0.1, 0.0, 0.1, (True, True))


def gpu(capability="9.0", kind="NVIDIA H100", version="cuda 12090"):
    """What JAX says of a GPU, which there isn't here: the check reads no more of it."""
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(platform="gpu", device_kind=kind, compute_capability=capability, client=client)


def check(dtype="bfloat16", head_width=64, device=None):
    device = device or gpu()
    check_attention("cudnn", "full", dtype, head_width=head_width, rates=QUIET, prefix=0, device=device)


@pytest.mark.parametrize(("capability", "most"), [("8.0", 128), ("8.9", 128), ("9.0", 256), ("12.0", 256)])
def test_cudnn_takes_heads_up_to_a_width(capability, most):
    for width in (8, 64, most):
        check(head_width=width, device=gpu(capability))
    for width in (20, most + 8):
        with pytest.raises(UserError, match=f"^model.attention cudnn: .* at most {most}, not {width} wide; choose"):
            check(head_width=width, device=gpu(capability))


@pytest.mark.parametrize(
    "device",
    [gpu("7.5", "Tesla T4"), gpu("gfx90a", "AMD Instinct MI250X", "rocm 60300")],
    ids=["too old", "another maker's"],
)
def test_cudnn_needs_a_gpu_that_it_runs_on(device):
    with pytest.raises(UserError, match=f"compute capability 8.0 or newer, not {device.device_kind}; choose rows"):
        check(device=device)


def test_cudnn_takes_bfloat16_only():
    with pytest.raises(UserError, match=r"^model.attention cudnn: takes model.dtype bfloat16, not float32; set it"):
        check(dtype="float32")


def test_a_model_that_no_check_has_seen_refuses_as_well():
    """Somebody's own classifier in rows, with dropout on attention weights in the second of three layers."""
    model = ClassifierModule(tiny.CONFIG, tiny.CLASSES, jax.random.key(0), attention="rows")
    batch, noise = mixed(), Noise(jnp.uint32(SEED), jnp.uint32(STEP), Rates(0.1, 0.1, 0.1, (False, False, True, False)))
    with pytest.raises(UserError, match=r"^attention is computed in rows, yet .*; choose model.attention blocks"):
        jax.eval_shape(lambda: model(batch, noise))
    quiet = Noise(jnp.uint32(SEED), jnp.uint32(STEP), Rates(0.1, 0.0, 0.1, (True,) * 4))
    assert jax.eval_shape(lambda: model(batch, quiet)).shape == (SHAPE.slots, tiny.CLASSES)


# cuDNN itself


@two_strategies
def test_cudnn_gives_the_logits_and_gradients_of_rows(name):
    """In a process of its own: this one has only simulated CPU devices."""
    if not (shutil.which("nvidia-smi") and find_spec("jax_cuda12_plugin")):
        pytest.skip("cuDNN needs an NVIDIA GPU and JAX for it (the extra `cuda`), and there is none here")
    script = f"from support.attention_in_rows import assert_rounds_like; assert_rounds_like({name!r}, 'cudnn', 'rows')"
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
