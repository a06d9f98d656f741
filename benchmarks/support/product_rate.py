"""Measures the machine's highest rate of a matrix product, in FLOP/s."""

import time
from typing import Any

import jax
import jax.numpy as jnp

SIZES = ((1664, 768, 3072), (2048, 2048, 2048))
"""[rows, in, out] of the products: an MLP's for a batch of 32 AG News texts, and a square one."""

ON_A_GPU = ((8192, 8192, 8192),)
_TIMES = 8


def product_rate(dtype: str) -> float:
    """FLOP/s of the fastest of several products, with operands in `dtype` and sums in float32."""
    sizes = SIZES if jax.default_backend() == "cpu" else SIZES + ON_A_GPU
    return max(_rate(*size, jnp.dtype(dtype)) for size in sizes)


def _rate(rows: int, n_in: int, n_out: int, dtype: Any) -> float:
    x, w = jnp.ones((rows, n_in), dtype), jnp.ones((n_in, n_out), dtype)
    product = jax.jit(lambda x, w: jnp.matmul(x, w, preferred_element_type=jnp.float32)).lower(x, w).compile()
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        jax.block_until_ready(product(x, w))
        seconds.append(time.perf_counter() - started)
    return 2.0 * rows * n_in * n_out / min(seconds)
