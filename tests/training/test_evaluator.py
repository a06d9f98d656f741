"""Evaluation on the devices gives the naive way's logits, whether or not something stands before the texts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import naive, tiny
from support.bounds import assert_same_logits

from flax_agnews.training.compiler import Compiler
from flax_agnews.training.evaluator import Evaluator
from flax_agnews.training.state import create_state

TEXTS = tiny.random_split([5, 40, 33], seed=4)
SHAPE = tiny.even(blocks=4, slots=3, lookback=1)


@pytest.mark.parametrize(("mode", "count"), [("jit", 1), ("jit", 2), ("pmap", 2)])
@pytest.mark.parametrize("name", ["full", "prompt"])
def test_logits_are_the_naive_ways(name: str, mode: Any, count: int) -> None:
    setup = tiny.prepare(name)
    body = {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}
    state, frozen = create_state(setup, body, seed=5)
    weights = {**frozen, **state.params}
    evaluator = Evaluator(setup.model, Compiler(tiny.devices(count, mode)))
    one = tiny.whole(TEXTS, range(3), SHAPE)
    batch = jax.tree.map(lambda x: np.stack([x[None]] * count), one)  # the same micro-batch on every device
    evaluator.compile("all", batch)
    found = np.asarray(evaluator.logits(evaluator.weights(weights), "all", batch))
    exact = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    alone = [naive.logits(exact, TEXTS.tokens[row], tiny.CONFIG) for row in range(3)]
    assert found.shape == (count, 1, 3, tiny.CLASSES)
    for device in range(count):
        assert_same_logits(tiny.by_number(found[device, 0], one), alone)
    assert evaluator.names == {"all"}
