"""One compiled program trains at any learning rate: a factor on every rate, and a stride on every schedule."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import tiny
from support.bounds import assert_same_losses

from flax_agnews.cli import arguments
from flax_agnews.config import TrainConfig
from flax_agnews.strategies import REGISTRY
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.state import set_up


def _scaled(name, factor):
    """A registered strategy with all its rates in its settings times a factor."""
    rates = [field for field in fields(REGISTRY[name].settings) if field.name.endswith("learning_rate")]
    assert rates, name
    return tiny.build(name, **{rate.name: rate.default * factor for rate in rates})


def _updated(setup, plan, steps):
    """Trained leaves after so many updates of every epoch by random gradients, the same for all."""
    optimizer = setup.optimizer
    rng = np.random.default_rng(0)
    shapes = {path: setup.model.shapes[path] for path in sorted(setup.trainable)}
    params = {path: jnp.float32(rng.standard_normal(shape)) for path, shape in shapes.items()}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for epoch in range(plan.epochs):
        learning = setup.stages[setup.stage_of(epoch)].learning
        for _ in range(steps):
            gradients = {path: jnp.float32(rng.standard_normal(shape)) for path, shape in shapes.items()}
            own, before = ({p: tree[p] for p in shapes if p in learning} for tree in (gradients, params))
            updates, state = update(own, state, before)
            params |= optax.apply_updates(before, updates)
    return params


def _set_up(strategy, steps, **train):
    base = tiny.random_base()
    plan = Plan(steps * 4, steps, 8, base.config.n_layer, TrainConfig(epochs=4, weight_decay=0.1, **train))
    setup = tiny.prepare(strategy, base)
    return set_up(
        setup.model.strategy, base, tiny.CLASSES, plan, arguments.parse(["--model.dropout", "0"]).config.model, 50
    ), plan


@pytest.mark.parametrize("name", tiny.STRATEGIES)
def test_a_factor_is_that_on_every_rate_and_a_stride_that_on_every_schedule(name):
    """A run of 2 updates an epoch, its rates told to the strategy, against every fourth of 8 and a factor."""
    factor, how = 10**0.5, {"schedule": "cosine", "warmup_fraction": 0.25}
    whole, plan = _set_up(_scaled(name, 1.0), 8, **how)
    short, short_plan = _set_up(_scaled(name, factor), 2, **how)
    ours = _updated(whole.at(factor, stride=4), plan, 2)
    theirs = _updated(short, short_plan, 2)
    plain = _updated(short.at(1 / factor), short_plan, 2)
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=1e-5, atol=1e-6, err_msg=path)
    assert any(not np.allclose(plain[path], value, rtol=1e-3) for path, value in theirs.items())


def test_one_program_has_the_losses_of_any_rate():
    split, factor = tiny.random_split(tiny.random_lengths(35, longest=60)), 10.0
    setup = tiny.prepare(tiny.build("full", learning_rate=1e-4))
    ours = tiny.training(setup.at(1.0), split, tiny.devices(), epochs=4)
    theirs = tiny.training(tiny.prepare(_scaled_rate(1e-4 * factor)), split, tiny.devices(), epochs=4)
    found = _losses(ours.at(setup.at(factor), ours.batches))
    assert_same_losses(found, _losses(theirs))
    with pytest.raises(AssertionError):
        assert_same_losses(found, _losses(ours))


def _scaled_rate(rate):
    return tiny.build("full", learning_rate=rate)


def _losses(program, steps=20):
    state, frozen = program.start(0)
    losses = []
    for number in range(steps):
        state, values = program.train_step(state, frozen, 0, *divmod(number, program.batches.steps_per_epoch))
        losses.append(float(values["loss"] / values["weight"]))
    return np.array(losses)
