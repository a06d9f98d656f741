"""Each backend's types of products and results, and its attention, are chosen by plain rules."""

from dataclasses import replace

import jax.numpy as jnp
import pytest
from support.tiny import CONFIG

from flax_agnews.models.backend import Backend
from flax_agnews.models.compute import FLOAT32, Compute, compute_on
from flax_agnews.models.gpt2_config import GPT2Config

CPU, TPU, AMD = Backend("cpu"), Backend("tpu"), Backend("gpu")
T4, A100, H100 = (Backend("gpu", capability) for capability in [(7, 5), (8, 0), (9, 0)])
BODY = GPT2Config()  # heads of 64


@pytest.mark.parametrize("backend", [CPU, TPU, AMD, T4, A100, H100])
def test_products_of_bfloat16_write_bfloat16_except_on_a_cpu(backend):
    half = compute_on(backend, BODY, "bfloat16")
    assert half.dtype == jnp.bfloat16
    assert half.results == (jnp.float32 if backend == CPU else jnp.bfloat16)
    single = compute_on(backend, BODY, "float32")
    assert (single.dtype, single.results) == (jnp.float32, jnp.float32)
    assert half.exact == replace(half, dtype=jnp.float32, results=jnp.float32)


@pytest.mark.parametrize(
    ("backend", "dtype", "automatic", "rows"),
    [
        (CPU, "bfloat16", "blocks", "xla"),
        (TPU, "bfloat16", "blocks", "xla"),
        (AMD, "bfloat16", "blocks", "xla"),
        (T4, "bfloat16", "blocks", "xla"),
        (A100, "bfloat16", "cudnn", "cudnn"),
        (H100, "bfloat16", "cudnn", "cudnn"),
        (H100, "float32", "blocks", "xla"),
    ],
)
def test_attention_is_in_rows_where_cudnn_computes_it_or_where_asked_for(backend, dtype, automatic, rows):
    ways = [compute_on(backend, BODY, dtype, way).attention for way in ("auto", "rows", "blocks")]
    assert ways == [automatic, rows, "blocks"]


@pytest.mark.parametrize("backend", [CPU, TPU, AMD, T4, A100, H100])
def test_pooled_tokens_attend_in_rows_except_on_a_cpu(backend):
    for dtype in ("float32", "bfloat16"):
        ways = [compute_on(backend, BODY, dtype, way).last_in_rows for way in ("blocks", "auto", "rows")]
        assert ways == ([False, False, True] if backend == CPU else [True] * 3)


@pytest.mark.parametrize(("backend", "widest"), [(A100, 128), (Backend("gpu", (8, 9)), 128), (H100, 256)])
def test_cudnn_takes_heads_of_a_multiple_of_eight_up_to_a_width(backend, widest):
    def way(head_width):
        return compute_on(backend, replace(CONFIG, n_embd=4 * head_width), "bfloat16").attention

    assert [way(width) for width in (8, 64, widest)] == ["cudnn"] * 3
    assert [way(width) for width in (12, widest + 8)] == ["blocks"] * 2


def test_float32_is_the_plain_way():
    assert compute_on(CPU, BODY, "float32") == FLOAT32 == Compute()
