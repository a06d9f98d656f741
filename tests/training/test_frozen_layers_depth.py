"""How many lower layers are frozen, so that their output can be computed once."""

from dataclasses import replace

import jax.numpy as jnp
import pytest
from flax import nnx
from support import tiny
from support.frozen_layers import CONFIG, LAYERS, rate

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.strategies import Strategy
from flax_agnews.training.frozen_layers import frozen_depth

# What may be cached


def depth_of(strategy, shared=True, layers=LAYERS, **settings):
    config = replace(CONFIG, n_layer=layers)
    base = tiny.random_base(config)
    strategy = tiny.build(strategy, config) if isinstance(strategy, str) else strategy
    setup = tiny.prepare(strategy, base, **settings)
    return frozen_depth(setup, {p: jnp.asarray(v) for p, v in base.parameters.items()} if shared else None)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("name", "layers", "depth"),
    [
        *((name, 4, 0) for name in tiny.STRATEGIES if name not in ("partial", "head")),
        ("partial", 4, 2),
        ("partial", 5, 2),
        ("head", 4, 4),
    ],
)
def test_registered_strategies_have_their_depth(name, layers, depth, shared):
    assert depth_of(name, shared, layers) == depth


def test_what_trains_limits_the_depth():
    assert depth_of(tiny.build("partial", CONFIG, frozen_fraction=1.0)) == LAYERS
    for placement in ("houlsby", "pfeiffer"):
        assert depth_of(tiny.build("adapter", CONFIG, placement=placement, top_layers=1)) == LAYERS - 1
    assert depth_of(tiny.build("lora", CONFIG, top_layers=3)) == LAYERS - 3
    for pattern in ("/wte/", "/wpe/", "/h/0/ln_1/bias"):
        assert depth_of(Strategy.by_pattern("one", {pattern: rate, ".*": "frozen"})) == 0
    assert depth_of(Strategy.by_pattern("one", {"/h/2/mlp/c_fc/bias": rate, ".*": "frozen"})) == 2


def test_dropout_in_frozen_layers_leaves_nothing_to_cache():
    assert depth_of("partial", dropout_frozen=True, dropout=0.1) == 0
    assert depth_of("partial", dropout_frozen=True, dropout=0.0) == 2


def adapted(change):
    """A trained head on a body that is changed."""

    def adapt(model, key):
        model = nnx.clone(model)
        change(model)
        return model

    return Strategy.by_pattern("adapted", {"^score/": rate, ".*": "frozen"}, adapt=adapt)


def _scale(linear):
    linear.kernel = nnx.Param(linear.kernel[...] * 1.0)  # even to the same values, in memory of its own


class Otherwise(ClassifierModule):
    """Might do anything with its parts."""


CHANGES = {
    "an adapter in layer 2": (lambda m: setattr(m.transformer.h[2], "adapter", nnx.Param(jnp.ones(3))), 2),
    "an adapter in layer 0": (lambda m: setattr(m.transformer.h[0], "adapter", nnx.Param(jnp.ones(3))), 0),
    "something beside the body": (lambda m: setattr(m, "extra", nnx.Param(jnp.ones(3))), 0),
    "other values in layer 1": (lambda m: _scale(m.transformer.h[1].mlp.c_fc), 1),
    "another function in layer 3": (lambda m: setattr(m.transformer.h[3].mlp, "activation", "relu"), 3),
    "another vocabulary": (
        lambda m: setattr(m.transformer.wte, "embedding", nnx.Param(m.transformer.wte.embedding[...] + 1)),
        0,
    ),
    "a layer less": (lambda m: setattr(m.transformer, "h", nnx.List(m.transformer.h[:3])), 0),
    "another way to classify": (lambda m: setattr(m, "__class__", Otherwise), 0),
    "nothing": (lambda m: None, LAYERS),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_strategy_changes_limits_the_depth(change):
    what, depth = CHANGES[change]
    assert depth_of(adapted(what)) == depth
