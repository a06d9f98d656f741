"""The shortcuts of a training step save work and change no result: last layer, products, exchange between devices."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from support import tiny
from support.bounds import assert_same_leaves, assert_same_logits

from flax_agnews.data.batches import measure
from flax_agnews.models.dropout import Noise
from flax_agnews.training.program import _example
from flax_agnews.training.state import create_state
from flax_agnews.training.step import classification_loss, make_train_step

every_strategy = pytest.mark.parametrize("name", tiny.original_first())
every_gradient = pytest.mark.parametrize("name", tiny.original_first(tiny.one_of_each("model", "trainable")))


def everywhere(model, batch, noise, dtype):
    """The loss with the last layer computed for all tokens, and the pooled ones taken from it."""
    logits = model.score(model.hidden(batch, noise, dtype)[batch.last])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    return {"loss": (losses * batch.weight).sum()}, logits


# Contract 5 (and 10)


@every_gradient
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_the_last_layer_for_pooled_tokens_only_is_the_same(name, noisy):
    setup = tiny.prepare(name, dropout_frozen=True)
    split = tiny.random_split(tiny.random_lengths(7))
    state, frozen = create_state(setup, {p: jnp.asarray(v) for p, v in setup.model.base.parameters.items()}, 0)
    need = measure(split.tokens.lengths, devices=1, micro_batches=1)
    batch = tiny.whole(split, range(len(split)), need._replace(slots=9))  # two slots stay empty

    @jax.jit
    def both(params):
        noise = Noise(jnp.uint32(1), jnp.uint32(2), setup.rates) if noisy else None
        merge = lambda p: setup.model.frame.merge({**frozen, **p})  # noqa: E731
        ours = jax.grad(lambda p: classification_loss(merge(p), batch, noise, jnp.float32)["loss"])(params)
        naive = jax.grad(lambda p: everywhere(merge(p), batch, noise, jnp.float32)[0]["loss"])(params)
        logits = merge(params)(batch, noise), everywhere(merge(params), batch, noise, jnp.float32)[1]
        return ours, naive, logits

    ours, naive, logits = both(state.params)
    assert_same_leaves(ours, naive)
    used = batch.weight > 0
    assert_same_logits(*(np.asarray(a)[used] for a in logits))
    assert all(np.isfinite(a).all() for a in logits)


# Products


# Collectives


@every_gradient
def test_devices_exchange_gradients_and_no_activations(name):
    setup, devices = tiny.prepare(name), tiny.devices(4)
    split = tiny.random_split(tiny.random_lengths(24))
    batches = tiny.planned(split, batch_size=24, devices=4)
    shape = batches.shapes[0]
    state, frozen = create_state(setup, devices.shared(dict(setup.model.base.parameters)), 0)
    batch = devices.batch(_example(shape, batches, 4))
    step = devices.compile(make_train_step(setup), devices.state(state), devices.shared(frozen), batch, donate=True)
    exchanged = collectives(step.as_text())
    leaves = {value.shape for value in state.params.values()}
    assert exchanged, "no collective was found: the devices never agree"
    # Gradients, and sums without axes (loss, correct, weight); an activation has the axis of tokens.
    assert exchanged <= leaves | {()}, exchanged - leaves
    assert not any(shape.tokens in dims for dims in leaves)


def collectives(program):
    """Shapes of what the collectives of a compiled program give."""
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|ragged-all-to-all"
    lines = re.findall(rf"= (.*?) (?:{names})(?:-start)?\(", program)
    dims = [found for line in lines for found in re.findall(r"\w+\[([\d,]*)\]", line)]
    return {tuple(int(n) for n in found.split(",") if n) for found in dims}


# Frozen weights on the device in the compute type


@every_strategy
def test_frozen_kernels_are_cast_once_and_the_numbers_stay(name):
    setup = tiny.prepare(name)
    setup = replace(setup, model=replace(setup.model, dtype=jnp.dtype("bfloat16")))
    split = tiny.random_split(tiny.random_lengths(16))
    program = tiny.training(setup, split, tiny.devices())
    state, frozen = program.start(seed=0)
    kernels = {path for path in frozen if path.startswith("transformer/h/") and path.endswith("/kernel")}
    assert {path for path, value in frozen.items() if value.dtype == jnp.bfloat16} == kernels
    assert {value.dtype for value in state.params.values()} == {jnp.dtype("float32")}
    assert all(program.start(seed=1)[1][path] is frozen[path] for path in kernels)
    # The same program over the original float32 weights, cast in every step: the very same losses.
    step, mesh = make_train_step(setup.stages[0]), program.devices.mesh
    step = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
    originals = {path: jnp.asarray(setup.model.base.parameters.get(path, value)) for path, value in frozen.items()}
    batch = jax.tree.map(lambda x: x[0], program.batches.batch(0, 0, 0)[1])
    _, naive = step(state, originals, batch)
    _, ours = program.train_step(state, frozen, 0, 0, 0)
    assert float(ours["loss"]) == float(naive["loss"])
    assert float(ours["grad_norm"]) == pytest.approx(float(naive["grad_norm"]), rel=1e-6)  # order of sums
