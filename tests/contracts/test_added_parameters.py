"""Strategies that add parameters to the body: how many there are, their first values, and ranges of settings."""

import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.added_parameters import adapted, logits, weights_of
from support.strategy_sizes import CONFIGS, GPT2, trained

from flax_agnews.errors import UserError
from flax_agnews.strategies import REGISTRY

every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")


# What trains


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # 12 layers: rank 8 from 768 to 2304; 2304 + 3072 scales; two bottlenecks of 48, and 25 layer norms in all;
        # 20 keys and values; and the head, 4 * 768
        ("lora", 12 * 8 * (768 + 2304) + 3072),
        ("ia3", 12 * (2304 + 3072) + 3072),
        ("adapter", 24 * (2 * 768 * 48 + 48 + 768) + 25 * 2 * 768 + 3072),
        ("prefix", 12 * 20 * 2 * 768 + 3072),
        ("lora_prompt", 12 * 8 * (768 + 2304) + 20 * 768 + 3072),
    ],
)
def test_gpt2_trains_as_many_numbers_as_by_hand(name, numbers):
    entry = REGISTRY[name]
    assert trained(entry.build(entry.settings(), GPT2), GPT2)[1] == numbers


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        *((name, "learning_rate", 0.0, "above 0") for name in ("lora", "ia3", "adapter", "prefix", "lora_prompt")),
        ("lora", "rank", 0, "1 to 32"),
        ("lora", "rank", 33, "1 to 32"),
        ("lora", "alpha", 0.0, "above 0"),
        ("lora", "dropout", 1.0, "at least 0 and below 1"),
        ("lora", "targets", "c_atn", "some of .*c_attn, .*mlp.c_proj"),
        ("lora", "targets", ",", "some of "),
        ("lora", "top_layers", 0, "1 to 3"),
        ("lora", "top_layers", 4, "1 to 3"),
        ("adapter", "reduction", 0, "1 to 32"),
        ("adapter", "reduction", 33, "1 to 32"),
        ("adapter", "top_layers", 4, "1 to 3"),
        ("prefix", "tokens", 0, "1 to 101"),
        ("prefix", "tokens", 102, "1 to 101"),
        ("lora_prompt", "rank", 0, "1 to 32"),
        ("lora_prompt", "tokens", 102, "1 to 101"),
        ("lora_prompt", "prompt_learning_rate", 0.0, "above 0"),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value, allowed):
    with pytest.raises(UserError, match=rf"^{name}\.{setting} {value}: must be .*{allowed}"):
        tiny.build(name, **{setting: value})


def test_both_rates_of_a_composition():
    """Adam's first update is the rate, whatever the gradient."""
    setup = tiny.prepare(tiny.build("lora_prompt", learning_rate=1e-3, prompt_learning_rate=7e-3), weight_decay=0.0)
    params = {path: jnp.ones(setup.model.shapes[path]) for path in setup.trainable}
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    for path, update in updates.items():
        rate = 7e-3 if path == "prompt/embedding" else 1e-3
        np.testing.assert_allclose(update, -rate, rtol=1e-5, err_msg=path)  # Adam's epsilon and float32


# First values


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_nothing_is_changed_at_first(name):
    plain, model = adapted(name)
    np.testing.assert_array_equal(logits(model), logits(plain))


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "lora_prompt"])
def test_first_values_are_the_seeds_and_the_given_model_stays(name):
    plain, model = adapted(name, seed=1)
    before = {path: np.array(value) for path, value in weights_of(plain).items()}
    again, other = (adapted(name, seed=seed)[1] for seed in (1, 2))
    assert set(weights_of(plain)) == set(before)
    added = set(weights_of(model)) - set(before)
    same = {p: np.array_equal(weights_of(model)[p], weights_of(again)[p]) for p in added}
    differ = {p for p in added if not np.array_equal(weights_of(model)[p], weights_of(other)[p])}
    assert all(same.values())
    assert differ == {p for p in added if np.asarray(weights_of(model)[p]).any()}
    for path, value in before.items():
        np.testing.assert_array_equal(weights_of(model)[path], value, err_msg=path)


# Merging
