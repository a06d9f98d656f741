"""Matrix products round their operands and nothing else; the product of several seeds is that of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_agnews.models.layers import product


def rough_linear(x, kernel, g, dtype):
    """Value and gradients of a product whose operands are rounded to `dtype`, summed in float64."""
    x, kernel, g = (np.asarray(jnp.asarray(a).astype(dtype), np.float64) for a in (x, kernel, g))
    return x @ kernel, g @ kernel.T, x.T @ g


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("tokens", [1, 64, 85])
def test_a_product_rounds_its_operands_and_nothing_else(dtype, tokens):
    keys = jax.random.split(jax.random.key(tokens), 3)
    x, kernel, g = (jax.random.normal(k, s) for k, s in zip(keys, [(tokens, 48), (48, 96), (tokens, 96)], strict=True))
    y, vjp = jax.vjp(lambda x, w: product(x, w, dtype), x, kernel)
    for ours, exact in zip((y, *vjp(g)), rough_linear(x, kernel, g, dtype), strict=True):
        assert ours.dtype == jnp.float32
        # Sums of at most 96 float32 products: a few roundings of 6e-8 each. Sums in bfloat16 would be 4e-3 off.
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_a_product_of_several_seeds_is_that_of_each():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel, g = (jax.random.normal(k, (3, *s)) for k, s in zip(keys, [(40, 8), (8, 16), (40, 16)], strict=True))

    def gradients(x, w, g):
        return jax.vjp(lambda x, w: product(x, w, jnp.bfloat16), x, w)[1](g)

    together = jax.vmap(gradients)(x, kernel, g)
    shared = jax.vmap(gradients, in_axes=(0, None, 0))(x, kernel[0], g)
    for seed in range(3):
        for ours, alone in zip([t[seed] for t in together], gradients(x[seed], kernel[seed], g[seed]), strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-6, atol=1e-5)  # order of float32 sums of 40 terms
        np.testing.assert_allclose(shared[0][seed], gradients(x[seed], kernel[0], g[seed])[0], rtol=1e-6, atol=1e-5)
