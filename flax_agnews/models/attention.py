"""Causal attention within texts that stand one behind the other on a flat token axis, the longest first."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flax_agnews.data.batches import Batch
from flax_agnews.data.shapes import BLOCK, LEVELS
from flax_agnews.models import dropout
from flax_agnews.models.dropout import PROMPT_TEXT, Noise, Place
from flax_agnews.models.rows import Rows, Way

KeysValues = tuple[Array, Array]
"""What every text of a batch sees before its own tokens, in one layer: keys and values [prefix, heads, head width]."""

_NOTHING = -1e30  # a score that no weight survives; finite, so that a row without any key stays finite


@dataclass(frozen=True)
class Region:
    """Consecutive blocks of queries that look back equally far.

    Attributes:
        start, blocks, lookback: in blocks (static); block b sees blocks b - lookback to b.
        mask: [blocks, BLOCK, window] bool, true where a query may see a key.
        key_position: [blocks, window] int32, place in its text of each key that a block sees.
    """

    start: int
    blocks: int
    lookback: int
    mask: Array
    key_position: Array

    def windows(self, x: Array, axis: int) -> Array:
        """Each block's keys: [all blocks, ..., BLOCK, ...] -> [blocks, ..., window, ...]; zeros before the first.

        Args:
            x: block by block, with its BLOCK tokens on `axis`.
            axis: of the tokens.
        """
        return _windows(x, self.start, self.blocks, self.lookback, axis)


def _windows(x: Array, start: int, blocks: int, lookback: int, axis: int) -> Array:
    first = start - lookback
    used = x[max(first, 0) : start + blocks]
    if first < 0:
        used = jnp.pad(used, [(-first, 0), *[(0, 0)] * (x.ndim - 1)])
    return jnp.concatenate([used[i : i + blocks] for i in range(lookback + 1)], axis=axis)


@dataclass(frozen=True)
class Layout:
    """Who attends to whom, and what dropout knows a token by: computed once a batch, used by every layer.

    Attributes:
        place: of the tokens: their text's number in the whole batch, their position (a soft prompt counted).
        regions: of the token axis.
        last: [slots] int32, index on the token axis of each text's pooled token.
        pooled: [slots, tokens] bool, which tokens belong to the text; [slots, stride] where texts stand apart.
        block: tokens of a block (static).
        apart: whether each text has a block to itself (static).
        rows: to attend in, instead of the regions.
    """

    place: Place
    regions: tuple[Region, ...]
    last: Array
    pooled: Array
    block: int = BLOCK
    apart: bool = False
    rows: Rows | None = None

    @classmethod
    def of(cls, batch: Batch, prefix: int, way: Way = "blocks") -> "Layout":
        """The layout of one device's micro-batch (no leading axes), `prefix` tokens before every text."""
        block, slots = batch.stride or BLOCK, len(batch.last)
        blocks = batch.text.reshape(-1, block)
        order = jnp.arange(batch.text.size).reshape(-1, block)
        position = batch.position + prefix
        regions = []
        for start, count, lookback in [(0, slots, 0)] if batch.stride else regions_of(batch.reach):
            window = partial(_windows, start=start, blocks=count, lookback=lookback, axis=1)
            queries = slice(start, start + count)
            # One more than the order, so that what stands before the first block comes out as nothing.
            keys, key_order = window(blocks), window(order + 1) - 1
            mask = (
                (blocks[queries, :, None] == keys[:, None])
                & (order[queries, :, None] >= key_order[:, None])
                & (key_order >= 0)[:, None]
            )
            regions.append(Region(start, count, lookback, mask, window(position.reshape(-1, block))))
        own = blocks if batch.stride else batch.text
        return cls(
            place=Place(batch.number[batch.text].astype(jnp.uint32), position),
            regions=tuple(regions),
            last=batch.last,
            pooled=own == jnp.arange(slots)[:, None],
            block=block,
            apart=bool(batch.stride),
            rows=None if way == "blocks" or batch.stride else Rows.of(batch, "cudnn" if way == "cudnn" else "xla"),
        )


def regions_of(reach: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, blocks, lookback) of each region, from how many leading blocks look back so far (`Shape.reach`)."""
    found, start = [], 0
    for level, end in sorted(zip(LEVELS, reach, strict=True), reverse=True):
        if end > start:
            found.append((start, end - start, level))
            start = end
    return found


def attend(
    q: Array,
    k: Array,
    v: Array,
    layout: Layout,
    prefix: KeysValues | None,
    scale: float,
    noise: Noise | None,
    depth: int,
    dtype: Any,
) -> Array:
    """Softmax attention of every token, scores and weights in float32.

    Args:
        q, k, v: [blocks, heads, BLOCK, head width] float32.
        layout: of the batch.
        prefix: what every text sees first, if anything.
        scale: what scores are multiplied by.
        noise, depth: for dropout on the attention weights.
        dtype: of the operands of products. They are cast late: XLA on a CPU fuses the gradient of a cast with that of
            the windows into one loop that takes 60 ms a layer at 124M, a sixth of a step.

    Returns:
        [blocks, heads, BLOCK, head width] float32.
    """
    q = (q * scale).astype(dtype)
    out = []
    for region in layout.regions:
        part = slice(region.start, region.start + region.blocks)
        keys, values = (region.windows(a, axis=2).astype(dtype) for a in (k, v))
        scores = _product("nhqd,nhkd->nhqk", q[part], keys)
        scores = jnp.where(region.mask[:, None], scores, _NOTHING)
        if prefix:
            scores = jnp.concatenate([_product("nhqd,khd->nhqk", q[part], prefix[0]), scores], axis=-1)
        weights = jax.nn.softmax(scores, axis=-1)
        places = layout.place.blocks(layout.block)[part]
        weights = _drop(weights, places, _after(prefix, region.key_position), noise, depth).astype(dtype)
        before = len(prefix[0]) if prefix else 0
        mixed = _product("nhqk,nhkd->nhqd", weights[..., before:], values)
        if prefix:
            mixed = mixed + _product("nhqk,khd->nhqd", weights[..., :before], prefix[1])
        out.append(mixed)
    return jnp.concatenate(out)


def attend_last(
    q: Array,
    k: Array,
    v: Array,
    layout: Layout,
    prefix: KeysValues | None,
    scale: float,
    noise: Noise | None,
    depth: int,
) -> Array:
    """Softmax attention of the pooled tokens only; a text's last token sees all of its text.

    Args:
        q: [slots, heads, head width].
        k, v: [tokens, heads, head width].
        layout, prefix, scale, noise, depth: as in `attend`.

    Returns:
        [slots, heads, head width], of v's type.
    """
    if layout.apart:
        return _attend_last_apart(q, k, v, layout, prefix, scale)
    mask = layout.pooled
    if prefix:
        k, v = (jnp.concatenate(pair) for pair in zip(prefix, (k, v), strict=True))
        mask = jnp.concatenate([jnp.ones((len(mask), len(prefix[0])), bool), mask], axis=1)
    scores = _product("shd,khd->hsk", q * jnp.asarray(scale, q.dtype), k)
    weights = jax.nn.softmax(jnp.where(mask, scores, _NOTHING), axis=-1)
    positions = _after(prefix, layout.place.position[None])[0]
    weights = _drop(weights, layout.place[layout.last], positions, noise, depth)
    return _product("hsk,khd->shd", weights.astype(v.dtype), v).astype(v.dtype)


def _attend_last_apart(q: Array, k: Array, v: Array, layout: Layout, prefix: KeysValues | None, scale: float) -> Array:
    """`attend_last` where texts stand apart: each looks at its own keys only. In evaluation, without dropout."""
    q = q * jnp.asarray(scale, q.dtype)
    k, v = (a.reshape(len(q), -1, *a.shape[1:]) for a in (k, v))
    scores = jnp.where(layout.pooled, _product("shd,skhd->hsk", q, k), _NOTHING)
    if prefix:
        scores = jnp.concatenate([_product("shd,khd->hsk", q, prefix[0]), scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    before = len(prefix[0]) if prefix else 0
    mixed = _product("hsk,skhd->shd", weights[..., before:], v)
    if prefix:
        mixed = mixed + _product("hsk,khd->shd", weights[..., :before], prefix[1])
    return mixed.astype(v.dtype)


def attend_prompt(q: Array, k: Array, v: Array, scale: float, noise: Noise | None, depth: int) -> Array:
    """A soft prompt's own causal attention: [prefix, heads, head width], of v's type."""
    p = len(q)
    scores = _product("qhd,khd->hqk", q * jnp.asarray(scale, q.dtype), k)
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((p, p), bool)), scores, _NOTHING), axis=-1)
    weights = _drop(weights, prompt_place(p), jnp.arange(p), noise, depth)
    return _product("hqk,khd->qhd", weights.astype(v.dtype), v).astype(v.dtype)


def prompt_place(tokens: int) -> Place:
    """Where a soft prompt's tokens stand: in no text, before every one."""
    return Place(jnp.full(tokens, PROMPT_TEXT, jnp.uint32), jnp.arange(tokens))


def _after(prefix: KeysValues | None, positions: Array) -> Array:
    """Positions [n, keys] of a prefix and of the keys behind it."""
    if not prefix:
        return positions
    before = jnp.broadcast_to(jnp.arange(len(prefix[0])), (len(positions), len(prefix[0])))
    return jnp.concatenate([before, positions], axis=1)


def _drop(weights: Array, queries: Place, positions: Array, noise: Noise | None, depth: int) -> Array:
    """Dropout on attention weights [..., heads, queries, keys]; a unit is (head, key's position [..., keys])."""
    if noise is None or not (rate := noise.rate(depth, 1)):
        return weights
    rows = noise.rows(depth, 1, queries)[..., None, :, None]
    units = jnp.moveaxis(_units(weights.shape[-3], positions[..., None, :]), 0, -3)
    return dropout.apply(weights, dropout.keep(rows, units, rate), rate)


def _units(heads: int, places: Array) -> Array:
    """Numbers for (head, key position): uint32 [heads, *places.shape]; positions stay below 2^16."""
    head = jnp.arange(heads, dtype=jnp.uint32).reshape(-1, *[1] * places.ndim)
    return head * jnp.uint32(2**16) + places.astype(jnp.uint32)


def _product(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)
