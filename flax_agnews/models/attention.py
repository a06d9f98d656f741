"""Causal attention within texts that stand one behind the other on a flat token axis."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from flax_agnews.data.batches import BLOCK, Batch
from flax_agnews.models import dropout
from flax_agnews.models.dropout import PROMPT_TEXT, Noise


def windows(x: Array, lookback: int) -> Array:
    """Each block's keys: the block itself and `lookback` blocks before it (zeros before the first).

    Args:
        x: [tokens, ...], tokens a multiple of `BLOCK`.

    Returns:
        [blocks, (lookback + 1) * BLOCK, ...]
    """
    blocks = x.reshape(-1, BLOCK, *x.shape[1:])
    padded = jnp.concatenate([jnp.zeros((lookback, *blocks.shape[1:]), x.dtype), blocks])
    return jnp.concatenate([padded[i : i + len(blocks)] for i in range(lookback + 1)], axis=1)


@dataclass(frozen=True)
class Layout:
    """Who attends to whom, and what dropout knows a token by: computed once a batch, used by every layer.

    The first `prefix` tokens are a soft prompt, computed once: every text attends to all of them, they see no text.

    Attributes:
        prefix: tokens of the soft prompt (static), 0 without.
        lookback: blocks (static).
        text: [prefix + tokens] uint32, number of the token's text in the whole batch.
        position: [prefix + tokens] int32, place in the text, the prompt counted.
        key_position: [blocks, window] int32, `position` of the keys that a block sees.
        mask: [blocks, BLOCK, window] bool, true where a query may see a key.
    """

    prefix: int
    lookback: int
    text: Array
    position: Array
    key_position: Array
    mask: Array

    @classmethod
    def of(cls, batch: Batch, prefix: int) -> "Layout":
        """The layout of one device's micro-batch (no leading axes)."""
        # Slots count from 1 here, so that the zeros before the first block belong to no text.
        slot = batch.text + 1
        order = jnp.arange(len(slot))
        keys, key_order = windows(slot, batch.lookback), windows(order, batch.lookback)
        queries = slot.reshape(-1, BLOCK)
        mask = (queries[:, :, None] == keys[:, None, :]) & (
            order.reshape(-1, BLOCK)[:, :, None] >= key_order[:, None, :]
        )
        number = batch.number[batch.text].astype(jnp.uint32)
        position = batch.position + prefix
        return cls(
            prefix=prefix,
            lookback=batch.lookback,
            text=jnp.concatenate([jnp.full(prefix, PROMPT_TEXT, jnp.uint32), number]),
            position=jnp.concatenate([jnp.arange(prefix, dtype=position.dtype), position]),
            key_position=windows(position, batch.lookback),
            mask=mask,
        )


def attend(q: Array, k: Array, v: Array, layout: Layout, scale: float, noise: Noise | None, depth: int) -> Array:
    """Softmax attention, scores and weights in float32.

    Args:
        q, k, v: [prefix + tokens, heads, head width], the soft prompt first.
        layout: of the batch.
        scale: what scores are multiplied by.
        noise, depth: for dropout on the attention weights.

    Returns:
        [prefix + tokens, heads, head width], of v's type.
    """
    p = layout.prefix
    q = q * jnp.asarray(scale, q.dtype)
    blocks = layout.mask.shape[0]
    queries = q[p:].reshape(blocks, BLOCK, *q.shape[1:])
    keys, values = windows(k[p:], layout.lookback), windows(v[p:], layout.lookback)
    scores = _scores("nqhd,nkhd->nhqk", queries, keys)
    # A padding token sees the other padding before it, never nothing: no row is empty, so softmax is finite.
    scores = jnp.where(layout.mask[:, None], scores, -jnp.inf)
    if p:
        scores = jnp.concatenate([_scores("nqhd,khd->nhqk", queries, k[:p]), scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1)
    if noise is not None and noise.rate(depth, 1):
        weights = _drop(weights, layout, noise, depth)
    weights = weights.astype(v.dtype)
    out = _mix("nhqk,nkhd->nqhd", weights[..., p:], values)
    if p:
        out = out + _mix("nhqk,khd->nqhd", weights[..., :p], v[:p])
    out = out.reshape(-1, *q.shape[1:])
    return jnp.concatenate([_attend_prompt(q[:p], k[:p], v[:p], noise, depth), out]) if p else out


def _attend_prompt(q: Array, k: Array, v: Array, noise: Noise | None, depth: int) -> Array:
    """The prompt's own causal attention: [prefix, heads, head width]; q is scaled already."""
    p = len(q)
    scores = jnp.where(jnp.tril(jnp.ones((p, p), bool)), _scores("qhd,khd->hqk", q, k), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    if noise is not None and (rate := noise.rate(depth, 1)):
        place = jnp.arange(p)
        rows = noise.rows(depth, 1, jnp.full(p, PROMPT_TEXT, jnp.uint32), place)
        weights = dropout.apply(weights, dropout.keep(rows[:, None], _units(len(weights), place[None]), rate), rate)
    return _mix("hqk,khd->qhd", weights.astype(v.dtype), v)


def _drop(weights: Array, layout: Layout, noise: Noise, depth: int) -> Array:
    """Dropout on attention weights [blocks, heads, BLOCK, prefix + window]; a unit is (head, key's position)."""
    rate, p = noise.rate(depth, 1), layout.prefix
    rows = noise.rows(depth, 1, layout.text[p:], layout.position[p:]).reshape(-1, 1, BLOCK, 1)
    prompt = jnp.broadcast_to(jnp.arange(p), (len(layout.key_position), p))
    places = jnp.concatenate([prompt, layout.key_position], axis=1)
    units = jnp.moveaxis(_units(weights.shape[1], places[:, None, :]), 0, 1)
    return dropout.apply(weights, dropout.keep(rows, units, rate), rate)


def _units(heads: int, places: Array) -> Array:
    """Numbers for (head, key position): uint32 [heads, *places.shape]; positions stay below 2^16."""
    head = jnp.arange(heads, dtype=jnp.uint32).reshape(-1, *[1] * places.ndim)
    return head * jnp.uint32(2**16) + places.astype(jnp.uint32)


def _scores(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _mix(equation: str, weights: Array, values: Array) -> Array:
    return jnp.einsum(equation, weights, values, preferred_element_type=jnp.float32).astype(values.dtype)
