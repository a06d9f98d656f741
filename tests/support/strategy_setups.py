"""Registered strategies set up on the tiny body, and their gradients compiled in any arrangement of devices."""

from dataclasses import fields, replace
from functools import cache

import jax.numpy as jnp
import numpy as np

from flax_agnews.models.dropout import Noise
from flax_agnews.strategies import REGISTRY
from flax_agnews.training.step import classification_loss, make_gradients
from support import tiny

RATES = (0.1, 0.5, 0.1)  # of embedding, attention weights and residual: contracts hold with any, and these differ


def uneven_base():
    """The tiny body, dropping out at a rate of its own at each kind of site."""
    embd, attn, resid = RATES
    return tiny.random_base(replace(tiny.CONFIG, embd_pdrop=embd, attn_pdrop=attn, resid_pdrop=resid))


@cache
def setup_of(name, frozen_noise=False):
    return tiny.prepare(fast(name), uneven_base(), dropout=None, dropout_frozen=frozen_noise)


def fast(name):
    """A registered strategy at a rate that moves the loss in 20 steps, where it has one rate."""
    has_rate = "learning_rate" in {field.name for field in fields(REGISTRY[name].settings)}
    return tiny.build(name, **({"learning_rate": 1e-3} if has_rate else {}))


def shared(setup):
    return {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}


def doubles(weights):
    return {path: np.asarray(value, np.float64) for path, value in weights.items()}


def compiled_gradients(setup, where, batches):
    """A function (state, frozen, step) -> sums and gradients of a batch, over the devices, with the state's dropout."""
    gradients = make_gradients(setup.model, classification_loss)

    def one_device(state, frozen, batch):
        learning = {path: state.params[path] for path in setup.learning}
        return gradients(learning, {**frozen, **state.params}, batch, Noise(state.seed, state.step, setup.rates))

    return on_batches(one_device, where, batches)


def on_batches(one_device, where, batches):
    """Compiles a function as one device sees it, for the only shape of the batches."""
    (_,) = batches.shapes
    compiled = {}

    def call(state, frozen, number):
        epoch, step = divmod(number, batches.steps_per_epoch)
        batch = where.batch(batches.batch(0, epoch, step)[1])
        if not compiled:
            compiled["it"] = where.compile(one_device, state, frozen, batch, donate=False)
        return where.first(compiled["it"](state, frozen, batch))

    return call
