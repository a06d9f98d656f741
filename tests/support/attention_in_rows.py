"""Logits and gradients of texts whose attention is computed in blocks, in rows or by cuDNN."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.dropout import Noise
from flax_agnews.training.state import create_state
from flax_agnews.training.step import classification_loss
from support import tiny
from support.bounds import leaf_errors
from support.computes import computed
from support.strategy_setups import shared

SEED, STEP = 3, 5


SHAPE = tiny.even(blocks=16, slots=8, lookback=5)  # one for all drawn lengths: compiled once


LENGTHS = [1, tiny.LONGEST, 63, 1, 64, 65]  # in a shape of eight slots two stay empty


@cache
def setup_of(name, compute, dropout=0.0):
    """A strategy on the tiny body, computed in a way, without dropout unless asked for."""
    return computed(tiny.prepare(name, dropout=dropout), compute)


def mixed():
    """A micro-batch of texts of `LENGTHS`, with empty slots and padding."""
    return tiny.whole(tiny.random_split(LENGTHS, seed=1), range(len(LENGTHS)), SHAPE)


@cache
def logits_and_gradients(name, compute, dropout=0.0):
    """Of the mixed texts, on the default device; the gradients with dropout."""
    setup, batch = setup_of(name, compute, dropout), mixed()
    state, frozen = create_state(setup, shared(setup), SEED)
    noise = Noise(jnp.uint32(SEED), jnp.uint32(STEP), setup.rates) if dropout else None

    def loss(params):
        model = setup.model.frame.merge({**frozen, **params})
        return classification_loss(model, batch, noise, compute)["loss"], model(batch, None, compute)

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(state.params)
    return tiny.by_number(logits, batch), gradients


def assert_rounds_like(name, ours, other):
    """A way in bfloat16 is as near to float32's results as another, which rounds as often, though elsewhere.

    Twice as far is allowed: neither rounding is the better one, both are samples of the same size.
    """
    expected_logits, expected = logits_and_gradients(name, FLOAT32)
    results = [logits_and_gradients(name, way) for way in (ours, other)]
    error, theirs = (np.abs(logits - expected_logits).max() for logits, _ in results)
    assert 0 < error <= 2 * theirs
    errors, theirs = (leaf_errors(gradients, expected) for _, gradients in results)
    assert {path: errors[path] for path in errors if not 0 < errors[path] <= 2 * theirs[path]} == {}
