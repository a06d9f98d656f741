"""What a layer keeps from its forward for its backward pass: with bfloat16 on a GPU no more than the products need."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.computes import ON_GPU

from flax_agnews.data.shapes import BLOCK, measure
from flax_agnews.models import parameters
from flax_agnews.models.dropout import Noise, Rates
from flax_agnews.models.forward_pass import BodyPass
from flax_agnews.models.gpt2 import GPT2
from flax_agnews.models.token_layout import Layout, regions_of


def bytes_kept(batch, rate):
    """Name of a type -> bytes of the arrays of activations that a layer's gradient keeps, with this dropout.

    Without arrays of zeros: they are constants, which XLA doesn't store.
    """
    frame, weights = parameters.split(GPT2(tiny.CONFIG, jax.random.key(0)))
    noise = Noise(jnp.uint32(1), jnp.uint32(2), Rates(rate, rate, rate, (True,) * 4)) if rate else None
    forward = BodyPass(Layout.of(batch, 0, ON_GPU), noise, ON_GPU)
    x = jax.random.normal(jax.random.key(1), (batch.text.size, tiny.CONFIG.n_embd))
    _, backward = jax.vjp(lambda w, x: frame.merge(w).layers(x, forward, end=1), weights, x)
    shapes = {x.shape for x in weights.values()}
    kept = [np.asarray(x) for x in jax.tree.leaves(backward) if x.shape not in shapes and x.size >= batch.text.size]
    found = Counter()
    for array in kept:
        if array.astype(np.float32).any():
            found[str(array.dtype)] += array.nbytes
    return found


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_layer_keeps_what_stands_beside_products_and_norms(rate):
    lengths = tiny.random_lengths(24)
    split = tiny.random_split(lengths)
    batch = tiny.whole(split, range(len(split)), measure(lengths, 1, 1))
    hidden = batch.text.size * tiny.CONFIG.n_embd
    windows = sum(blocks * (lookback + 1) for _, blocks, lookback in regions_of(batch.reach)) * BLOCK
    keys, scores = windows * tiny.CONFIG.n_embd, windows * BLOCK * tiny.CONFIG.n_head
    dropped = rate > 0
    assert bytes_kept(batch, rate) == {
        "float32": 4 * 2 * hidden,  # the residual stream before each norm
        # Left operands of four products (the last is four times as wide), and the result of the third; queries, keys
        # and values; attention weights, before and after dropout.
        "bfloat16": 2 * ((3 + 4) * hidden + 4 * hidden + hidden + 2 * keys + (1 + dropped) * scores),
        # What may be attended to, and what dropout keeps: of weights, and of the outputs of attention and MLP.
        "bool": scores + dropped * (scores + 2 * hidden),
    }
