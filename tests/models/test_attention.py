"""Attention in blocks: a token sees its own text up to itself, and nothing else."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from flax_agnews.data.batches import measure
from flax_agnews.data.shapes import BLOCK
from flax_agnews.models.token_layout import Layout, regions_of


@jax.jit
def masks_of(batch):
    """The masks of a layout's regions, and which token each text pools."""
    layout = Layout.of(batch, 0)
    return [region.mask for region in layout.regions], layout.pooled


def seen_by(masks, reach):
    """Which token sees which, as pairs of places on the token axis."""
    pairs = []
    for mask, (start, _, lookback) in zip(masks, regions_of(reach), strict=True):
        block, query, key = np.nonzero(np.asarray(mask))
        first = start + block
        pairs.append(np.stack([first * BLOCK + query, (first - lookback) * BLOCK + key], axis=1))
    return np.concatenate(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, tiny.LONGEST), min_size=1, max_size=12), st.integers(0, 3))
def test_attention_sees_the_same_text_up_to_itself_and_nothing_else(lengths, spare):
    need = measure(np.array(lengths), devices=1, micro_batches=1)
    shape = need._replace(reach=(need.reach[0] + spare, *need.reach[1:]), slots=12)
    split = tiny.random_split(lengths)
    masks, pooled = masks_of(tiny.whole(split, range(len(lengths)), shape))
    seen, total = seen_by(masks, shape.reach), sum(lengths)
    order = np.argsort(-np.array(lengths), kind="stable")  # the longest first
    text = np.repeat(order, np.array(lengths)[order])
    allowed = (text[:, None] == text[None, :]) & np.tri(total, dtype=bool)
    ours = np.zeros_like(allowed)
    of_texts = seen[seen[:, 0] < total]
    assert of_texts.min() >= 0
    ours[of_texts[:, 0], of_texts[:, 1]] = True
    np.testing.assert_array_equal(ours, allowed)
    assert len(np.unique(seen[:, 0])) == shape.tokens  # padding sees something too, so that its softmax is finite
    of_slot = np.zeros((12, shape.tokens), bool)
    of_slot[np.repeat(np.arange(len(order)), np.array(lengths)[order]), np.arange(total)] = True
    np.testing.assert_array_equal(np.asarray(pooled), of_slot)
