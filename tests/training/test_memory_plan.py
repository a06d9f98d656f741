"""Estimated memory of a run: against the compiler's own count, by hand, and where a device's limit comes from."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny

from flax_agnews.data.batches import assemble
from flax_agnews.data.shapes import Shape
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, body_shapes
from flax_agnews.system.machine import machine_memory
from flax_agnews.training.adapted_model import in_compute_type
from flax_agnews.training.memory_plan import activation_bytes, estimated_memory, memory_limit
from flax_agnews.training.state import Setup, create_state
from flax_agnews.training.step import classification_loss, inputs_of_gradients, make_gradient_step

BODY = GPT2Config(vocab_size=300, n_positions=1024, n_embd=128, n_layer=3, n_head=2)


def setup_of(name: str, body: GPT2Config = BODY, **how: Any) -> Setup:
    """A strategy on a body of which only the shapes are known."""
    shapes = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in body_shapes(body).items()}
    return tiny.prepare(tiny.build(name, body), Base("shapes", body, shapes), **how)


def compiled_bytes(setup: Setup, shape: Shape) -> int:
    """What XLA reserves for intermediate results of a gradient step, without weights, batch and gradients."""
    one = tiny.devices()
    state, frozen = jax.eval_shape(lambda body: create_state(setup, body, 0), setup.model.base.parameters)
    frozen = jax.eval_shape(partial(in_compute_type, setup.model), frozen)
    split = tiny.random_split([1])
    batch = one.like_batch(assemble(split.tokens, split.labels, np.zeros(0, int), shape, 1))
    arguments = inputs_of_gradients(one.like_state(state)), one.like_shared(frozen), batch
    step: Any = one.compile(make_gradient_step(setup, classification_loss), *arguments, donate=False)
    return step.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", ["full", "lora", "head"])
def test_activations_are_what_the_compiler_reserves(name: str) -> None:
    """Texts that look back 4 blocks. As users' programs, 1.00 to 1.12 on bodies of 3 to 5 layers (see the module)."""
    setup, shape = setup_of(name), tiny.even(blocks=64, slots=32, lookback=4)
    assert 0.75 < activation_bytes(setup, shape) / compiled_bytes(setup, shape) < 1.25


def test_activations_grow_with_each_layer_that_trains() -> None:
    shape = tiny.even(blocks=8, slots=8, lookback=2)
    of = {n: activation_bytes(setup_of("full", GPT2Config(**{**vars(BODY), "n_layer": n})), shape) for n in (4, 6, 8)}
    assert of[8] - of[6] == of[6] - of[4] > 0
    frozen = {n: activation_bytes(setup_of("head", GPT2Config(**{**vars(BODY), "n_layer": n})), shape) for n in (4, 8)}
    assert frozen[4] == frozen[8]  # nothing is kept, and layers are computed one after the other


def test_a_cached_body_leaves_the_batch_alone() -> None:
    """A vector of float32 for each place."""
    shape = tiny.even(blocks=8, slots=8, lookback=2)
    assert activation_bytes(setup_of("head"), shape, depth=3) == 8 * 32 * 128 * 4


def test_memory_by_hand() -> None:
    """Weights, two moments and their counter of AdamW, gradients; all of it twice for two seeds, a quarter on four."""
    setup, numbers = setup_of("full"), sum(int(np.prod(shape)) for shape in body_shapes(BODY).values())
    batches = SimpleNamespace(shapes=[tiny.even(8, 8, 2)], data=SimpleNamespace(depth=0))
    one: Any = estimated_memory(setup, [batches])  # type: ignore[list-item]
    trained = numbers + BODY.n_embd * tiny.CLASSES
    assert one.body == 4 * numbers
    assert one.gradients == 4 * trained
    assert 12 * trained <= one.state <= 12 * trained + 100
    assert one.total == one.body + one.state + one.gradients + one.activations
    pair = estimated_memory(setup, [batches], together=2)  # type: ignore[list-item]
    assert pair.total - pair.body == 2 * (one.total - one.body)
    shard = estimated_memory(setup, [batches], split=4)  # type: ignore[list-item]
    assert (shard.state, shard.gradients) == (one.state // 4, one.gradients // 4)
    assert (shard.body, shard.activations) == (one.body, one.activations)


def test_bfloat16_adds_copies_of_kernels() -> None:
    kernels = sum(int(np.prod(shape)) for path, shape in body_shapes(BODY).items() if path.endswith("kernel"))
    batches: Any = SimpleNamespace(shapes=[tiny.even(8, 8, 2)], data=SimpleNamespace(depth=0))
    plain, narrow = (estimated_memory(setup_of("head", dtype=dtype), [batches]) for dtype in ("float32", "bfloat16"))
    assert narrow.body - plain.body == 2 * kernels


class _Device:
    def __init__(self, platform: str, stats: dict[str, int] | None) -> None:
        self.platform, self._stats = platform, stats

    def memory_stats(self) -> dict[str, int] | None:
        return self._stats


def test_a_devices_limit() -> None:
    assert memory_limit(_Device("gpu", {"bytes_limit": 60})) == 60
    assert memory_limit(_Device("cpu", None), sharing=4) == machine_memory() // 4
    assert memory_limit(_Device("tpu", None)) is None
