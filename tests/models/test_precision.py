"""What products of float32 matrices round to: by setting and device, and in the programs that JAX makes."""

import jax
import jax.numpy as jnp
import pytest

from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.layers import product
from flax_agnews.models.precision import product_type, rounding


@pytest.fixture(autouse=True)
def nothing_chosen():
    """JAX's own default, whatever the tests' settings say (tests/conftest.py)."""
    with jax.default_matmul_precision(None):
        yield


@pytest.mark.parametrize(
    ("platform", "generation", "types"),
    [
        ("cpu", 0, ("float32", "float32", "float32")),
        ("gpu", 7.0, ("float32", "float32", "float32")),  # V100
        ("gpu", 8.0, ("TF32", "TF32", "float32")),
        ("gpu", 9.0, ("TF32", "TF32", "float32")),
        ("gpu", 0, ("float32", "float32", "float32")),  # not NVIDIA's
        ("tpu", 0, ("bfloat16", "3 x bfloat16", "float32")),
    ],
)
def test_the_type_of_products_is_that_of_the_documentation_of_jax(platform, generation, types):
    """https://docs.jax.dev/en/latest/jax.lax.html#jax.lax.Precision"""
    assert tuple(product_type(name, platform, generation) for name in ("default", "high", "highest")) == types


def dots(function, *arguments):
    """The products of a program for NVIDIA GPUs, each as one line."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_a_product_and_both_of_its_gradients_have_the_precision(precision):
    """The gradients are a function of their own (`custom_vjp`), traced later than the product."""

    def slopes(x, kernel):
        with rounding(precision):
            return jax.grad(lambda x, kernel: product(x, kernel, FLOAT32).sum() ** 2, (0, 1))(x, kernel)

    found = dots(slopes, jnp.ones((3, 4)), jnp.ones((4, 5)))
    name = precision.upper()
    assert len(found) == 3
    assert all(f"precision = [{name}, {name}]" in line for line in found), found


def test_the_default_is_that_of_the_context_around():
    def multiply(x):
        with rounding("default"):
            return x @ x

    def multiply_in(x, precision):
        with jax.default_matmul_precision(precision):
            return multiply(x)

    (line,) = dots(lambda x: multiply_in(x, "highest"), jnp.ones((2, 2)))
    assert "[HIGHEST, HIGHEST]" in line
