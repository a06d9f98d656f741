"""Rows hold every text of a batch, with little padding; going there and back changes nothing, gradients included."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from flax_agnews.data.batches import PADDING
from flax_agnews.data.shapes import measure, plan_shapes
from flax_agnews.models.text_rows import TextRows, groups_of


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=40), min_size=1, max_size=4))
def test_every_text_of_every_batch_of_a_shape_fits_its_row(batches):
    (shape,) = plan_shapes([measure(np.array(lengths), devices=1, micro_batches=1) for lengths in batches], 1)
    groups = groups_of(shape.reach, shape.slots)
    assert [group.start for group in groups] == np.cumsum([0, *(group.slots for group in groups)])[:-1].tolist()
    widths = np.repeat([group.width for group in groups], [group.slots for group in groups])
    assert len(widths) == shape.slots
    assert (np.diff(widths) <= 0).all()
    for lengths in batches:
        assert (np.sort(lengths)[::-1] <= widths[: len(lengths)]).all()


def test_rows_of_news_are_less_than_three_times_their_tokens():
    """512 texts with the lengths of AG News (a median of 48 tokens, a tenth above 75): a row of one width has 256."""
    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(48), 0.34, 512).astype(int), 10, 256)
    need = measure(lengths, devices=1, micro_batches=1)
    rows = sum(group.slots * group.width for group in groups_of(need.reach, need.slots))
    assert rows < 3 * lengths.sum() < 512 * 256


LENGTHS = [1, tiny.LONGEST, 63, 1, 64, 65, 100]
SHAPE = tiny.even(blocks=16, slots=9, lookback=5)  # two slots stay empty, and tokens at the end are padding


@cache
def batch():
    return tiny.whole(tiny.random_split(LENGTHS, seed=1), range(len(LENGTHS)), SHAPE)


def test_a_row_has_the_tokens_of_its_text_in_order_and_zeros():
    rows = TextRows.of(batch())
    tokens = np.arange(1, SHAPE.tokens + 1)  # none is zero
    parts = [np.asarray(part) for part in rows.split(jnp.asarray(tokens))]
    texts = [row for part in parts for row in part]
    for slot, row in enumerate(texts):
        own = tokens[batch().text == slot]
        np.testing.assert_array_equal(row, np.pad(own, (0, len(row) - len(own))))
        assert rows.lengths[slot] == max(1, len(own))
    assert len(texts) == SHAPE.slots


def test_there_and_back_is_the_identity_on_what_is_no_padding():
    rows = TextRows.of(batch())
    x = jax.random.normal(jax.random.key(0), (SHAPE.tokens, 3))
    real = (batch().text != PADDING)[:, None]
    np.testing.assert_array_equal(rows.join(rows.split(x)), np.where(real, x, 0))


@pytest.mark.parametrize("there", [True, False], ids=["to rows", "to tokens"])
def test_gradients_are_those_of_plain_indexing(there):
    """Of a loss that weighs every number differently; what stands in the padding of rows has no influence."""
    rows = TextRows.of(batch())
    real = batch().text != PADDING
    x = jax.random.normal(jax.random.key(1), (SHAPE.tokens, 2))
    parts = [jax.random.normal(jax.random.key(2), (group.slots, group.width, 2)) for group in rows.groups]
    slot, position = batch().text[real], batch().position[real]
    starts = np.cumsum([0, *(group.slots for group in rows.groups)])

    def indexed(parts):  # the real tokens' numbers, one at a time
        group = np.searchsorted(starts, slot, side="right") - 1
        return jnp.stack([parts[g][s - starts[g], p] for g, s, p in zip(group, slot, position, strict=True)])

    weights = jax.random.normal(jax.random.key(3), (int(real.sum()), 2))
    if there:
        ours = jax.grad(lambda x: (indexed(rows.split(x)) * weights).sum())(x)
        np.testing.assert_array_equal(ours[real], weights)
        np.testing.assert_array_equal(ours[~real], 0)
    else:
        ours = jax.grad(lambda parts: (rows.join(tuple(parts))[real] * weights).sum())(parts)
        expected = jax.grad(lambda parts: (indexed(parts) * weights).sum())(parts)
        for mine, theirs in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_texts_apart_are_rows_already():
    """Of texts that begin a fixed stride apart, as prediction has them, each row is a stride."""
    stride, slots = 16, 3
    lengths = np.array([16, 5, 9])
    text = np.full((slots, stride), PADDING)
    for slot, length in enumerate(lengths):
        text[slot, :length] = slot
    apart = replace(
        batch(),
        text=text.ravel(),
        position=np.where(text == PADDING, 0, np.arange(stride)).ravel(),
        last=np.arange(slots) * stride + lengths - 1,
        stride=stride,
    )
    (rows,) = TextRows.of(apart).split(jnp.arange(1, slots * stride + 1))
    np.testing.assert_array_equal(
        rows, np.where(text == PADDING, 0, np.arange(1, slots * stride + 1).reshape(text.shape))
    )
