"""What the shortcuts of a step save, and that they change nothing: contract 5, fast products, quiet collectives."""

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
from flax_agnews.models.layers import product
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


def rough_linear(x, kernel, g, dtype):
    """Value and gradients of a product whose operands are rounded to `dtype`, summed in float64."""
    x, kernel, g = (np.asarray(jnp.asarray(a).astype(dtype), np.float64) for a in (x, kernel, g))
    return x @ kernel, g @ kernel.T, x.T @ g


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("tokens", [1, 64, 85])
def test_a_product_rounds_its_operands_and_nothing_else(dtype, tokens):
    keys = jax.random.split(jax.random.key(tokens), 3)
    x, kernel, g = (jax.random.normal(k, s) for k, s in zip(keys, [(tokens, 48), (48, 96), (tokens, 96)], strict=True))
    y, vjp = jax.vjp(lambda x, w: product(x, w, dtype), x, kernel)
    for ours, exact in zip((y, *vjp(g)), rough_linear(x, kernel, g, dtype), strict=True):
        assert ours.dtype == jnp.float32
        # Sums of at most 96 float32 products: a few roundings of 6e-8 each. Sums in bfloat16 would be 4e-3 off.
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_a_product_of_several_seeds_is_that_of_each():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel, g = (jax.random.normal(k, (3, *s)) for k, s in zip(keys, [(40, 8), (8, 16), (40, 16)], strict=True))

    def gradients(x, w, g):
        return jax.vjp(lambda x, w: product(x, w, jnp.bfloat16), x, w)[1](g)

    together = jax.vmap(gradients)(x, kernel, g)
    shared = jax.vmap(gradients, in_axes=(0, None, 0))(x, kernel[0], g)
    for seed in range(3):
        for ours, alone in zip([t[seed] for t in together], gradients(x[seed], kernel[seed], g[seed]), strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-6, atol=1e-5)  # order of float32 sums of 40 terms
        np.testing.assert_allclose(shared[0][seed], gradients(x[seed], kernel[0], g[seed])[0], rtol=1e-6, atol=1e-5)


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
    setup = replace(tiny.prepare(name), dtype=jnp.dtype("bfloat16"))
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
