"""Strategies: how many numbers train (closed forms), settings, prompts' first values, patterns, and the registry."""

import math
from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import tiny

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies import REGISTRY, Stage, Strategy
from flax_agnews.strategies.base import settings_of
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.state import create_state, set_up

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


# What trains


@pytest.mark.parametrize(("name", "numbers"), [("full", 124_442_880), ("prompt", 18_432), ("partial", 42_531_840)])
def test_gpt2_trains_as_many_numbers_as_the_experiment_says(name, numbers):
    entry = REGISTRY[name]
    setup, ours = trained(entry.build(entry.settings(), GPT2), GPT2)
    assert ours == numbers
    prompt = 20 * 768 if name == "prompt" else 0
    assert setup.total_parameters == 124_442_880 + prompt


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")
@pytest.mark.parametrize("classes", [2, 7])
def test_full_trains_everything(config, classes):
    setup, ours = trained(tiny.build("full", config), config, classes)
    assert ours == setup.total_parameters == body_size(config) + classes * config.n_embd


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")
@pytest.mark.parametrize("tokens", [1, 20])
def test_prompt_trains_prompt_and_head(config, tokens):
    setup, ours = trained(tiny.build("prompt", config, tokens=tokens), config)
    assert ours == tokens * config.n_embd + 4 * config.n_embd
    assert setup.total_parameters == body_size(config) + ours
    assert setup.trainable == {"prompt/embedding", "score/kernel"}


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
    for path, label in setup.labels.items():
        parts = path.split("/")
        if parts[1] == "h":
            assert label == expected[int(parts[2])], path
        else:
            assert label == ("frozen" if parts[1] in ("wte", "wpe") else "top"), path


def test_partials_rates_are_base_and_multiplied():
    """Adam's first update is the rate, whatever the gradient: read both groups' rates from it."""
    setup = tiny.prepare(tiny.build("partial", learning_rate=1e-3, top_multiplier=7.0), weight_decay=0.0)
    params = {path: jnp.ones(shape) for path, shape in setup.frame.shapes.items() if path in setup.trainable}
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    for path, update in updates.items():
        rate = 1e-3 if path.startswith("transformer/h/1/") else 7e-3
        np.testing.assert_allclose(update, -rate, rtol=1e-5, err_msg=path)  # Adam's epsilon and float32


# Settings


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        ("full", "learning_rate", 0.0, "above 0"),
        ("full", "learning_rate", -1e-5, "above 0"),
        ("full", "learning_rate", float("nan"), "above 0"),
        ("prompt", "learning_rate", 0.0, "above 0"),
        ("prompt", "tokens", 0, r"1 to 101"),  # the vocabulary's size: rows are drawn without repeats
        ("prompt", "tokens", 102, r"1 to 101"),
        ("partial", "learning_rate", 0.0, "above 0"),
        ("partial", "frozen_fraction", -0.1, "0 to 1"),
        ("partial", "frozen_fraction", 1.1, "0 to 1"),
        ("partial", "top_layers", -1, "0 to 3"),
        ("partial", "top_layers", 4, "0 to 3"),
        ("partial", "top_multiplier", 0.0, "above 0"),
        *((name, "learning_rate", 0.0, "above 0") for name in ("head", "bitfit", "norms", "llrd", "gradual")),
        ("llrd", "decay", 0.0, "above 0, at most 1"),
        ("llrd", "decay", 1.1, "above 0, at most 1"),
        ("gradual", "factor", 0.9, "1 or more"),
        ("gradual", "layers", 0, "1 to 3"),
        ("gradual", "layers", 4, "1 to 3"),
        ("gradual", "epochs", 0, "1 or more"),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value, allowed):
    with pytest.raises(UserError, match=rf"^{name}\.{setting} {value}: must be .*{allowed}"):
        tiny.build(name, **{setting: value})


@pytest.mark.parametrize("entry", list(REGISTRY), ids=lambda e: e.name)
def test_every_registered_strategy_is_described(entry):
    strategy = entry.build(entry.settings(), GPT2)
    assert strategy.name == entry.name
    assert entry.summary
    assert entry.paper.startswith("https://")
    assert strategy.settings == settings_of(entry.settings())


def test_a_prompt_and_text_above_the_models_positions_is_an_error():
    plan = Plan(10, 10, 8, 3, TrainConfig())
    base = Base("tiny", tiny.CONFIG, {})
    strategy = tiny.build("prompt", tokens=20)
    set_up(strategy, base, 4, plan, ModelConfig(), max_length=236)
    with pytest.raises(UserError, match=r"^data.max_length 237: .*256 positions; at most 236 for strategy prompt$"):
        set_up(strategy, base, 4, plan, ModelConfig(), max_length=237)


def test_the_fingerprint_tells_edited_schemes_apart():
    def fingerprint(strategy):
        return trained(strategy, tiny.CONFIG)[0].fingerprint

    same = [fingerprint(tiny.build("partial")) for _ in range(2)]
    edited = [
        fingerprint(tiny.build("partial", learning_rate=6e-5)),
        fingerprint(tiny.build("partial", frozen_fraction=0.0)),
        fingerprint(tiny.build("full")),
        fingerprint(Strategy.by_pattern("partial", {"score": optax.sgd(1.0), "": "frozen"})),
        *(
            fingerprint(Strategy.by_pattern("partial", {"wte": optax.sgd(1.0), "": "frozen"}, stages=stages))
            for stages in ([], [Stage(0, ["wte"])], [Stage(0, ["wte"]), Stage(3, ["wte"])])
        ),
    ]
    assert same[0] == same[1]
    assert len({same[0], *edited}) == 8


# Prompts' first values


def first_prompt(initializer, tokens, seed=0, base=None):
    setup = tiny.prepare(tiny.build("prompt", initializer=initializer, tokens=tokens), base)
    shared = {path: jnp.asarray(value) for path, value in setup.base.parameters.items()}
    return np.asarray(create_state(setup, shared, seed)[0].params["prompt/embedding"])


@pytest.mark.parametrize("tokens", [1, 20, 100])
def test_a_prompt_from_the_vocabulary_is_rows_of_it_without_repeats(tokens):
    table = tiny.random_base().parameters["transformer/wte/embedding"]
    prompt = first_prompt("vocabulary", tokens)
    rows = [np.flatnonzero((table == vector).all(-1)) for vector in prompt]
    assert all(len(row) == 1 for row in rows)
    assert len({int(row[0]) for row in rows}) == tokens


@pytest.mark.parametrize(("initializer", "deviation"), [("normal", 0.02), ("unit_normal", 1.0), ("uniform", 12**-0.5)])
def test_a_random_prompts_scale(initializer, deviation):
    prompt = first_prompt(initializer, 100)  # 3,200 numbers
    assert abs(prompt.mean()) < 4 * deviation / np.sqrt(prompt.size)
    # A sample's standard deviation is off by 1 / sqrt(2 n) of it (less for a uniform one).
    assert abs(prompt.std() / deviation - 1) < 4 / np.sqrt(2 * prompt.size)
    assert (np.abs(prompt).max() <= 0.5) == (initializer != "unit_normal")


def test_a_normal_prompt_has_the_bodys_own_scale():
    base = tiny.random_base(replace(tiny.CONFIG, initializer_range=0.3))
    prompt = first_prompt("normal", 100, base=base)
    assert abs(prompt.std() / 0.3 - 1) < 4 / np.sqrt(2 * prompt.size)


@pytest.mark.parametrize("initializer", ["vocabulary", "normal", "uniform", "unit_normal"])
def test_a_prompt_is_its_seeds(initializer):
    a, again, b = (first_prompt(initializer, 5, seed) for seed in (1, 1, 2))
    assert (a == again).all()
    assert (a != b).any()


def test_adapting_leaves_the_given_model_as_it_is():
    base = tiny.random_base()
    model = base.classifier(4, jax.random.key(0))
    adapted = tiny.build("prompt").adapt(model, jax.random.key(1))
    assert model.prompt is None
    assert model.prompt_tokens == 0
    assert adapted.prompt_tokens == 5
