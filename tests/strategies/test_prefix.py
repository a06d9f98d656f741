"""Prefix tuning: the first values of keys and values."""

import numpy as np
import pytest
from support.added_parameters import adapted, logits, weights_of
from support.bounds import assert_same_logits


def test_a_prefix_of_words_is_a_prompt_of_them():
    """Its keys and values are at first what the body makes of a soft prompt of the same words."""
    _, prefix = adapted("prefix", seed=3)
    _, prompt = adapted("prompt", seed=3)
    assert_same_logits(logits(prefix), logits(prompt))


def test_a_random_prefixs_scale():
    _, model = adapted("prefix", tokens=100, initializer="unit_normal")
    values = np.asarray(weights_of(model)["prompt/keys_values"])
    assert values.shape == (100, 3, 2, 32)
    assert values.std() == pytest.approx(1, rel=0.05)
