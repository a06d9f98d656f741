"""Strategies from outside the package train like registered ones."""

import numpy as np
import optax
import pytest
from support import tiny
from support.outside_strategy import BiasSettings, biases

from flax_agnews.strategies import Strategy


def losses(strategy, steps=8):
    """Training losses of a strategy on random texts that can be learnt by heart."""
    setup = tiny.prepare(strategy, dropout=0.0)
    program = tiny.training(setup, tiny.random_split([5, 9, 12, 20, 3, 7, 4, 4]), tiny.devices(), epochs=steps)
    state, frozen = program.start(0)
    found = []
    for epoch in range(steps):
        state, metrics = program.train_step(state, frozen, 0, epoch, 0)
        found.append(float(metrics["loss"]) / float(metrics["weight"]))
    return found


OUTSIDE = {
    "registered": lambda: biases(BiasSettings(), tiny.CONFIG),
    "lion and adafactor": lambda: Strategy.by_pattern(
        "mixed",
        {
            r"transformer/h/0/": "frozen",
            r"transformer/h/\d+/": optax.lion(3e-3, weight_decay=0.1),
            "score|ln_f": optax.adafactor(1e-2),
            ".*": "frozen",
        },
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_strategy_from_outside_the_package_trains(name):
    found = losses(OUTSIDE[name]())
    assert np.isfinite(found).all()
    assert found[-1] < 0.9 * found[0]
