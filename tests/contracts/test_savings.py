"""The shortcuts of a training step save work and change no result: last layer, products, exchange between devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from support import tiny
from support.bounds import assert_same_leaves, assert_same_logits
from support.computes import ON_CPU, computed
from support.strategy_setups import SPLIT, setup_of, shared

from flax_agnews.data.batches import measure
from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.dropout import Noise
from flax_agnews.strategies import ALL
from flax_agnews.training.state import create_state
from flax_agnews.training.step import classification_loss, inputs_of_gradients, make_gradient_step

GRADIENTS = tiny.one_of_each("model", "trainable")
every_gradient = pytest.mark.parametrize("name", tiny.original_first(GRADIENTS))


def everywhere(model, batch, noise, compute):
    """The loss with the last layer computed for all tokens, and the pooled ones taken from it."""
    logits = model.score(model.hidden(batch, noise, compute)[batch.last])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    return {"loss": (losses * batch.weight).sum()}, logits


# Contract 5 (and 10)


@pytest.mark.parametrize(
    ("name", "noisy"),
    [
        pytest.param(name, noisy, marks=[] if name in ALL and (noisy or name == "prompt") else pytest.mark.long)
        for name in GRADIENTS
        for noisy in (False, True)
    ],
)
def test_the_last_layer_for_pooled_tokens_only_is_the_same(name, noisy):
    setup = setup_of(name, frozen_noise=True)
    split = tiny.random_split(tiny.random_lengths(7))
    state, frozen = create_state(setup, shared(setup), 0)
    need = measure(split.tokens.lengths, devices=1, micro_batches=1)
    batch = tiny.whole(split, range(len(split)), need._replace(slots=9))  # two slots stay empty

    @jax.jit
    def both(params):
        noise = Noise(jnp.uint32(1), jnp.uint32(2), setup.rates) if noisy else None
        merge = lambda p: setup.model.frame.merge({**frozen, **p})  # noqa: E731
        ours = jax.grad(lambda p: classification_loss(merge(p), batch, noise, FLOAT32)["loss"])(params)
        naive = jax.grad(lambda p: everywhere(merge(p), batch, noise, FLOAT32)[0]["loss"])(params)
        logits = merge(params)(batch, noise), everywhere(merge(params), batch, noise, FLOAT32)[1]
        return ours, naive, logits

    ours, naive, logits = both(state.params)
    assert_same_leaves(ours, naive)
    used = batch.weight > 0
    assert_same_logits(*(np.asarray(a)[used] for a in logits))
    assert all(np.isfinite(a).all() for a in logits)


# Collectives


@every_gradient
def test_devices_exchange_gradients_and_no_activations(name):
    split = tiny.random_split(tiny.random_lengths(24))
    program = tiny.training(setup_of(name), split, tiny.devices(4), batch_size=24)
    (shape,) = program.batches.shapes
    steps = [*program._gradients.values(), *program._update.values()]
    exchanged = frozenset().union(*(collectives(step.wait().as_text()) for step in steps))
    leaves = {program.setup.model.shapes[path] for path in program.setup.trainable}
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


def kernels_of_layers(paths):
    """Those that are cast: matrices of the body's layers."""
    return {path for path in paths if path.startswith("transformer/h/") and path.endswith("/kernel")}


FREEZING = [
    name
    for name in tiny.STRATEGIES
    if kernels_of_layers(tiny.prepare(name).model.shapes) - tiny.prepare(name).trainable
]


@pytest.mark.optimized
@pytest.mark.parametrize("name", tiny.original_first(FREEZING))
def test_frozen_kernels_are_cast_once_and_the_numbers_stay(name):
    setup = setup_of(name)
    setup = computed(setup, ON_CPU)
    program = tiny.training(setup, SPLIT, tiny.devices(), epochs=4)
    state, frozen = program.start(seed=0)
    kernels = kernels_of_layers(frozen)
    assert {path for path, value in frozen.items() if value.dtype == jnp.bfloat16} == kernels
    assert {value.dtype for value in state.params.values()} == {jnp.dtype("float32")}
    assert all(program.start(seed=1)[1][path] is frozen[path] for path in kernels)
    # The same program over the original float32 weights, cast in every step: the very same losses.
    step, mesh = make_gradient_step(setup.stages[0], classification_loss), program.devices.mesh
    step = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
    originals = {path: jnp.asarray(setup.model.base.parameters.get(path, value)) for path, value in frozen.items()}
    batch = jax.tree.map(lambda x: x[0], program.batches.batch(0, 0, 0)[1])
    naive, gradients = step(inputs_of_gradients(state), originals, batch)
    norm = float(optax.tree.norm(gradients)) / float(naive["weight"])
    _, ours = program.train_step(state, frozen, 0, 0, 0)
    assert float(ours["loss"]) == float(naive["loss"])
    assert float(ours["grad_norm"]) == pytest.approx(norm, rel=1e-6)  # order of sums
