"""Matrix products round their operands and results, and nothing else; that of several seeds is that of each."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.computes import ON_CPU, ON_GPU

from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.forward_pass import ForwardPass
from flax_agnews.models.layers import product

COMPUTES = [FLOAT32, ON_CPU, ON_GPU]


def rough_linear(x, kernel, g, dtype):
    """Value and gradients of a product whose operands are rounded to `dtype`, summed in float64."""
    x, kernel, g = (np.asarray(jnp.asarray(a).astype(dtype), np.float64) for a in (x, kernel, g))
    return x @ kernel, g @ kernel.T, x.T @ g


@pytest.mark.parametrize("compute", COMPUTES, ids=["float32", "bfloat16 on a CPU", "bfloat16 on a GPU"])
@pytest.mark.parametrize("tokens", [1, 64, 85])
def test_a_product_rounds_its_operands_and_what_it_writes(compute, tokens):
    keys = jax.random.split(jax.random.key(tokens), 3)
    x, kernel, g = (jax.random.normal(k, s) for k, s in zip(keys, [(tokens, 48), (48, 96), (tokens, 96)], strict=True))
    y, vjp = jax.vjp(lambda x, w: product(x, w, compute), x, kernel)
    dx, dw = vjp(g.astype(y.dtype))
    assert (y.dtype, dx.dtype, dw.dtype) == (compute.results, x.dtype, kernel.dtype)
    exact = rough_linear(x, kernel, g, compute.dtype)
    for ours, one, written in zip((y, dx, dw), exact, (compute.results, compute.results, jnp.float32), strict=True):
        # Sums of at most 96 float32 products: a few roundings of 6e-8 each. Sums in bfloat16 would be 4e-3 off, but in
        # a result that is written in bfloat16 only the last rounding is, by at most 2^-8 of a number.
        rounding = 2**-8 if written == jnp.bfloat16 else 0
        np.testing.assert_allclose(np.asarray(ours, np.float64), one, rtol=rounding, atol=1e-6 * np.abs(one).max())


def test_a_gpu_s_products_write_bfloat16_and_weight_gradients_float32():
    """As the program for one is lowered: operands are bfloat16 throughout, and no result is cast afterwards."""
    x, kernel, g = (jax.ShapeDtypeStruct(s, jnp.float32) for s in [(64, 48), (48, 96), (64, 96)])
    both = jax.jit(lambda x, w, g: jax.vjp(lambda x, w: product(x, w, ON_GPU), x, w)[1](g.astype(jnp.bfloat16)))
    lowered = both.trace(x, kernel, g).lower(lowering_platforms=("cuda",)).as_text()
    found = re.findall(r"dot_general.*: \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>\) -> tensor<(\S*)x(\w+)>", lowered)
    assert sorted(found) == [("bf16", "bf16", "48x96", "f32"), ("bf16", "bf16", "64x48", "bf16")]


@pytest.mark.parametrize("name", ["lora", "adapter", "ia3"])
def test_a_gpu_s_layers_with_adapters_write_bfloat16(name):
    setup = tiny.prepare(name)
    weights = {path: jnp.ones(shape) for path, shape in setup.model.shapes.items()}
    layers = setup.model.frame.merge(weights).transformer.h[0]
    for layer, inputs in [
        (layers.attn.c_attn, 32),
        (layers.attn.c_proj, 32),
        (layers.mlp.c_fc, 32),
        (layers.mlp.c_proj, 128),
    ]:
        assert layer(jnp.ones((3, inputs)), ForwardPass(compute=ON_GPU)).dtype == jnp.bfloat16


def test_a_product_of_several_seeds_is_that_of_each():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel, g = (jax.random.normal(k, (3, *s)) for k, s in zip(keys, [(40, 8), (8, 16), (40, 16)], strict=True))

    def gradients(x, w, g):
        return jax.vjp(lambda x, w: product(x, w, ON_CPU), x, w)[1](g)

    together = jax.vmap(gradients)(x, kernel, g)
    shared = jax.vmap(gradients, in_axes=(0, None, 0))(x, kernel[0], g)
    for seed in range(3):
        for ours, alone in zip([t[seed] for t in together], gradients(x[seed], kernel[seed], g[seed]), strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-6, atol=1e-5)  # order of float32 sums of 40 terms
        np.testing.assert_allclose(shared[0][seed], gradients(x[seed], kernel[0], g[seed])[0], rtol=1e-6, atol=1e-5)
