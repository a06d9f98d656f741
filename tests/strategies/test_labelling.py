"""Strategies that only label: what trains against PyTorch's own list of parameters, and rates by closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from strategies.test_strategies import CONFIGS, body_size, layer_size, trained
from support import tiny
from support.reference import by_path
from transformers import GPT2Config as TorchConfig
from transformers import GPT2ForSequenceClassification

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.state import set_up

every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")


def of_torch(config, belongs):
    """Our paths of the parameters of transformers' classifier that `belongs` (module, name of the parameter)."""
    sizes = {name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    model = GPT2ForSequenceClassification(TorchConfig(**sizes, num_labels=4, pad_token_id=0))
    paths = {id(parameter): path for path, parameter in by_path(model.transformer).items()}
    paths[id(model.score.weight)] = "score/kernel"
    return {
        paths[id(parameter)]
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if belongs(module, name) or parameter is model.score.weight
    }


BELONGS = {
    "head": lambda module, name: False,
    "bitfit": lambda module, name: name == "bias",
    "norms": lambda module, name: isinstance(module, torch.nn.LayerNorm),
    "llrd": lambda module, name: True,
}


@every_config
@pytest.mark.parametrize("name", BELONGS)
def test_what_trains_is_pytorchs_list(name, config):
    setup, _ = trained(tiny.build(name, config), config)
    assert setup.trainable == of_torch(config, BELONGS[name])


@every_config
def test_how_many_numbers_train(config):
    layers, width = config.n_layer, config.n_embd
    head = 4 * width
    assert {name: trained(tiny.build(name, config), config)[1] for name in BELONGS} == {
        "head": head,
        "bitfit": layers * (2 + 4 + 5) * width + width + head,  # norms; attention (3 + 1); MLP (4 + 1)
        "norms": layers * 2 * 2 * width + 2 * width + head,
        "llrd": body_size(config) + head,
    }


def rates_of(setup, labels=None):
    """Path -> rate, read from Adam's first update, which is the rate whatever the gradient."""
    params = {
        path: jnp.ones(shape)
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


@every_config
@pytest.mark.parametrize("decay", [0.95, 0.5, 1.0])
def test_llrds_rate_of_every_leaf(config, decay):
    rates = rates_of(planned(tiny.build("llrd", config, learning_rate=2e-3, decay=decay), config))
    for path, rate in rates.items():
        parts = path.split("/")
        if parts[1] == "h":
            below_top = config.n_layer - 1 - int(parts[2])
        else:
            below_top = config.n_layer if parts[1] in ("wte", "wpe") else 0
        assert rate == pytest.approx(2e-3 * decay**below_top, rel=1e-5), path  # Adam's epsilon and float32
    assert len(rates) == 12 * config.n_layer + 5


# Gradual unfreezing


def group_of(path, layers, each):
    """0 above the layers; then from the top so many layers a group, counted one by one; embeddings with the last."""
    groups, left = [[]], list(range(layers))
    while left:
        groups.append([left.pop() for _ in range(min(each, len(left)))])
    parts = path.split("/")
    if parts[1] in ("wte", "wpe"):
        return len(groups) - 1
    return next(i for i, g in enumerate(groups) if int(parts[2]) in g) if parts[1] == "h" else 0


@every_config
@pytest.mark.parametrize("each", [1, 2, 3, None])
@pytest.mark.parametrize("wait", [1, 2])
def test_gradual_begins_with_the_head_and_goes_down(config, each, wait):
    layers = config.n_layer
    if each is not None and each > layers:
        pytest.skip("a group has no more layers than the model")
    setup = planned(tiny.build("gradual", config, layers=each, epochs=wait), config, epochs=30)
    expected = {path: group_of(path, layers, each or -(-layers // 3)) for path in setup.model.shapes}
    groups = 1 + max(expected.values())
    assert [span.first for span in setup.spans] == [wait * group for group in range(groups)]
    for number, stage in enumerate(setup.stages):
        assert stage.learning == stage.trainable == {path for path, group in expected.items() if group <= number}
    assert setup.trainable == set(setup.model.shapes)
    assert [setup.stage_of(epoch) for epoch in range(2 * wait)] == [0] * wait + [1] * wait
    assert each is not None or groups <= 4


def test_gradual_trains_what_the_run_reaches():
    config = CONFIGS[3]  # five layers
    setup = planned(tiny.build("gradual", config, layers=2), config, epochs=2)
    assert setup.trainable == setup.stages[-1].learning
    assert setup.trainable_parameters == 2 * layer_size(config.n_embd) + 2 * config.n_embd + 4 * config.n_embd
    assert {path for path in setup.trainable if "/h/" in path} == {
        path for path in setup.model.shapes if path.startswith(("transformer/h/3/", "transformer/h/4/"))
    }


def test_graduals_rates_are_those_of_the_run_when_a_group_begins():
    config = tiny.CONFIG  # three layers: four groups of one
    strategy = tiny.build("gradual", config, learning_rate=1e-2, layers=1, factor=2.6)
    constant = planned(strategy, config)
    for path, rate in rates_of(constant).items():
        assert rate == pytest.approx(1e-2 / 2.6 ** group_of(path, 3, 1), rel=1e-5), path
    falling = rates_of(planned(strategy, config, schedule="linear"))  # 40 steps, a group begins after each 10
    for path, rate in falling.items():
        group = group_of(path, 3, 1)
        assert rate == pytest.approx(1e-2 / 2.6**group * (1 - group / 4), rel=1e-5), path
