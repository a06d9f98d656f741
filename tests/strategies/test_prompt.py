"""Prompt tuning: which parameters train, and the prompt's first values."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.strategy_sizes import CONFIGS, body_size, trained

from flax_agnews.training.state import create_state


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")
@pytest.mark.parametrize("tokens", [1, 20])
def test_prompt_trains_prompt_and_head(config, tokens):
    setup, ours = trained(tiny.build("prompt", config, tokens=tokens), config)
    assert ours == tokens * config.n_embd + 4 * config.n_embd
    assert setup.model.total_parameters == body_size(config) + ours
    assert setup.trainable == {"prompt/embedding", "score/kernel"}


# Prompts' first values


def first_prompt(initializer, tokens, seed=0, base=None):
    setup = tiny.prepare(tiny.build("prompt", initializer=initializer, tokens=tokens), base)
    shared = {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}
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
