"""Bodies of several sizes, and how many numbers a strategy trains of each."""

import jax.numpy as jnp
import numpy as np
import pytest

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.state import set_up
from support import tiny

GPT2 = GPT2Config()


CONFIGS = [
    tiny.CONFIG,
    GPT2Config(vocab_size=57, n_positions=64, n_embd=24, n_layer=1, n_head=2),
    GPT2Config(vocab_size=300, n_positions=96, n_embd=16, n_layer=4, n_head=4),
    GPT2Config(vocab_size=80, n_positions=64, n_embd=8, n_layer=5, n_head=1),
    GPT2Config(vocab_size=80, n_positions=64, n_embd=8, n_layer=9, n_head=1),
]


def trained(strategy, config, classes=4):
    """(setup, how many numbers train) without computing any weights."""
    plan = Plan(10, 10, 8, config.n_layer, TrainConfig())
    setup = set_up(strategy, Base("shapes only", config, {}), classes, plan, ModelConfig(), max_length=8)
    return setup, setup.trainable_parameters


def layer_size(width):
    """Two layer norms, attention (3 + 1 matrices with biases), MLP of four times the width."""
    return 2 * 2 * width + 4 * (width * width + width) + (8 * width * width + 5 * width)


def body_size(config):
    return (config.vocab_size + config.n_positions + 2) * config.n_embd + config.n_layer * layer_size(config.n_embd)


every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")


def rates_of(setup, labels=None):
    """Path -> rate, read from Adam's first update, which is the rate whatever the gradient.

    Leaves have two numbers along each axis instead of theirs: an operation is compiled for each shape.
    """
    params = {
        path: jnp.ones([2] * len(shape))
        for path, shape in setup.model.shapes.items()
        if path in setup.trainable and (labels is None or setup.model.labels[path] in labels)
    }
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    found = {path: -np.asarray(update) for path, update in updates.items()}
    assert all((rate == rate.flat[0]).all() for rate in found.values())
    return {path: float(rate.flat[0]) for path, rate in found.items()}


def planned(strategy, config, epochs=4, steps_per_epoch=10, **train):
    plan = Plan(epochs * steps_per_epoch, steps_per_epoch, 8, config.n_layer, TrainConfig(weight_decay=0.0, **train))
    return set_up(strategy, Base("shapes only", config, {}), 4, plan, ModelConfig(), max_length=8)


def group_of(path, layers, each):
    """0 above the layers; then from the top so many layers a group, counted one by one; embeddings with the last."""
    groups, left = [[]], list(range(layers))
    while left:
        groups.append([left.pop() for _ in range(min(each, len(left)))])
    parts = path.split("/")
    if parts[1] in ("wte", "wpe"):
        return len(groups) - 1
    return next(i for i, g in enumerate(groups) if int(parts[2]) in g) if parts[1] == "h" else 0
