"""Equal layers are one function of a program, in training, evaluation and for prompts."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from support import tiny

from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.gpt2 import GPT2, GPT2Config
from flax_agnews.models.shared_function import called

CONFIG = GPT2Config(**{**tiny.CONFIG.__dict__, "n_layer": 5})


def functions(program: str) -> dict[str, int]:
    """Number of calls of each function of a lowered program."""
    calls = re.findall(r"call @(\w+)\(", program)
    return {name: calls.count(name) for name in set(calls)}


def test_a_layer_is_compiled_once_and_called_for_each():
    body = GPT2(CONFIG, jax.random.key(0))
    vectors = jnp.ones((3, CONFIG.n_embd))
    lowered = jax.jit(lambda x: body.prompt(x, None, FLOAT32)).lower(vectors)
    # The last layer is another function: JAX leaves its output out, which no other layer needs.
    assert functions(lowered.as_text())["_compiled_once"] == 4
    compiled = lowered.compile().as_text()
    assert len(re.findall(r" call\(", compiled)) == 5


class Square(nnx.Module):
    """A layer that multiplies by its weight and calls a function of JAX that is a call, too."""

    def __init__(self, weight):
        self.weight = nnx.Param(jnp.float32(weight))

    def __call__(self, x, forward):
        return jnp.where(x > forward, self.weight[...] * x**2, 0)


def test_values_and_gradients_are_those_of_the_layers():
    """Against the derivative of 3 (2 x²)² = 12 x⁴ where x and 2 x² are above 0.5, else 0."""
    layers = [Square(2), Square(3)]

    @jax.value_and_grad
    def loss(x):
        for layer in layers:
            x = called(layer, x, jnp.float32(0.5))
        return x

    value, slope = jax.jit(loss)(jnp.float32(1.5))
    assert value == pytest.approx(12 * 1.5**4, rel=1e-6)
    assert slope == pytest.approx(48 * 1.5**3, rel=1e-6)
    assert jax.jit(loss)(jnp.float32(0.4)) == (0, 0)


def test_elsewhere_than_on_a_cpu_layers_are_one_function_without_attributes(monkeypatch):
    """As XLA for a GPU gets it, where nothing is known of the attribute."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    body = GPT2(CONFIG, jax.random.key(0))
    lowered = jax.jit(lambda x: body.prompt(x, None, FLOAT32)).lower(jnp.ones((3, CONFIG.n_embd))).as_text()
    assert functions(lowered)["_call"] == 4
    assert "inlineable" not in lowered
