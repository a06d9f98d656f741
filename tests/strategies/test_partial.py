"""Partial fine-tuning: which layers train, and at which rates."""

import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.strategy_sizes import CONFIGS, layer_size, trained


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("top_layers", [None, 0, 1, "all"])
def test_partial_trains_the_upper_layers_in_two_groups(config, fraction, top_layers):
    layers, width = config.n_layer, config.n_embd
    top_layers = layers if top_layers == "all" else top_layers
    setup, ours = trained(tiny.build("partial", config, frozen_fraction=fraction, top_layers=top_layers), config)
    training = layers - math.floor(layers * Fraction(str(fraction)))
    assert ours == training * layer_size(width) + 2 * width + 4 * width
    top = min(training, math.ceil(layers / 4) if top_layers is None else top_layers)
    expected = ["frozen"] * (layers - training) + ["base"] * (training - top) + ["top"] * top
    for path, label in setup.model.labels.items():
        parts = path.split("/")
        if parts[1] == "h":
            assert label == expected[int(parts[2])], path
        else:
            assert label == ("frozen" if parts[1] in ("wte", "wpe") else "top"), path


def test_partials_rates_are_base_and_multiplied():
    """Adam's first update is the rate, whatever the gradient: read both groups' rates from it."""
    setup = tiny.prepare(tiny.build("partial", learning_rate=1e-3, top_multiplier=7.0), weight_decay=0.0)
    params = {path: jnp.ones(shape) for path, shape in setup.model.shapes.items() if path in setup.trainable}
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    for path, update in updates.items():
        rate = 1e-3 if path.startswith("transformer/h/1/") else 7e-3
        np.testing.assert_allclose(update, -rate, rtol=1e-5, err_msg=path)  # Adam's epsilon and float32
