"""Registered strategies set up on a body of two layers, and their gradients in any arrangement of devices."""

from dataclasses import fields, replace
from functools import cache

import jax.numpy as jnp
import numpy as np

from flax_agnews.models.dropout import Noise
from flax_agnews.strategies import REGISTRY
from flax_agnews.training.step import classification_loss, inputs_of_gradients, make_gradients
from support import tiny

RATES = (0.1, 0.5, 0.1)  # of embedding, attention weights and residual: contracts hold with any, and these differ

BODY = replace(tiny.CONFIG, n_layer=2)
"""One layer that computes every token, and the last, which computes the pooled ones: a third only repeats the first."""

SPLIT = tiny.random_split(tiny.random_lengths(35, longest=90))
"""In batches of eight, each epoch's last has only 3 texts. Tests that train on it compile the same programs."""


def uneven_base():
    """The body, dropping out at a rate of its own at each kind of site."""
    embd, attn, resid = RATES
    return tiny.random_base(replace(BODY, embd_pdrop=embd, attn_pdrop=attn, resid_pdrop=resid))


@cache
def setup_of(name, frozen_noise=False):
    return tiny.prepare(fast(name), uneven_base(), dropout=None, dropout_frozen=frozen_noise)


def fast(name):
    """A registered strategy at a rate that moves the loss in 20 steps, where it has one rate.

    Of two layers `partial` freezes one and has one in its base group; its top group is the last norm and the head.
    """
    has_rate = "learning_rate" in {field.name for field in fields(REGISTRY[name].settings)}
    rate = {"learning_rate": 1e-3} if has_rate else {}
    return tiny.build(name, BODY, **rate, **({"top_layers": 0} if name == "partial" else {}))


def shared(setup):
    return {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}


def doubles(weights):
    return {path: np.asarray(value, np.float64) for path, value in weights.items()}


def gradients_of(program, state, frozen, seeds=(0,), epoch=0, step=0):
    """Sums and gradients of a batch, by the program that trains, with the state's dropout."""
    stage = program.setup.stage_of(epoch)
    shape, batch = program.by_stage[stage].joint_batch(seeds, epoch, step)
    compiled = program._gradients[stage, len(seeds), shape]
    return program.devices.first(compiled(inputs_of_gradients(state), frozen, program.devices.batch(batch)))


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
