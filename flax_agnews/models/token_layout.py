"""Computes, once per batch for all layers, which tokens attend to which, and each token's coordinates."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped

from flax_agnews.data.batches import Batch
from flax_agnews.data.shapes import BLOCK, LEVELS
from flax_agnews.models.compute import FLOAT32, Compute
from flax_agnews.models.dropout import Place
from flax_agnews.models.text_rows import TextRows


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mask", "key_position"],
    meta_fields=["start", "blocks", "lookback"],
)
@dataclass(frozen=True)
class Region:
    """Consecutive blocks of queries that look back equally many blocks.

    Attributes:
        start: number of the first block (static).
        blocks: number of blocks (static).
        lookback: number of earlier blocks that each block sees (static): block b sees b - lookback to b, its window.
        mask: true where a query of a block may see a key of its window.
        key_position: position in its text of each key of a window.
    """

    start: int
    blocks: int
    lookback: int
    mask: Bool[Array, "blocks block window"]
    key_position: Int[Array, "blocks window"]

    def windows(self, x: Shaped[Array, "all_blocks *_"], axis: int) -> Shaped[Array, "blocks *_"]:
        """Collects the keys or values of each block's window; zeros before the first block of the batch.

        Args:
            x: keys or values, with the BLOCK tokens of a block on `axis`.
            axis: axis of the tokens; in the result it has those of the whole window.
        """
        return _windows(x, self.start, self.blocks, self.lookback, axis)


def _windows(
    x: Shaped[Array | np.ndarray, "all_blocks *_"], start: int, blocks: int, lookback: int, axis: int
) -> Shaped[Array, "blocks *_"]:
    first = start - lookback
    used = x[max(first, 0) : start + blocks]
    if first < 0:
        used = jnp.pad(used, [(-first, 0), *[(0, 0)] * (x.ndim - 1)])
    return jnp.concatenate([used[i : i + blocks] for i in range(lookback + 1)], axis=axis)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["place", "regions", "last", "pooled", "rows"],
    meta_fields=["block", "apart"],
)
@dataclass(frozen=True)
class Layout:
    """The arrangement of one device's micro-batch: which tokens attend to which, and where texts end.

    Attributes:
        place: coordinates of the tokens; positions start after the soft prompt, if there is one.
        regions: parts of the token axis with equal lookback, in order.
        last: index on the token axis of each text's pooled token.
        pooled: true where a key belongs to the text; the keys are all tokens, or if `apart` those of the text's block.
        block: number of tokens per block (static).
        apart: whether each text has a block to itself (static).
        rows: indices for attention in rows, where some layer uses them; otherwise None.
    """

    place: Place
    regions: tuple[Region, ...]
    last: Int[Array | np.ndarray, " texts"]
    pooled: Bool[Array, "texts keys"]
    block: int = BLOCK
    apart: bool = False
    rows: TextRows | None = None

    @classmethod
    def of(cls, batch: Batch, prefix: int, compute: Compute = FLOAT32) -> "Layout":
        """Computes the layout of a batch.

        Args:
            batch: one device's micro-batch, without leading axes.
            prefix: number of tokens before every text.
            compute: implementation of attention.
        """
        block, slots = batch.stride or BLOCK, len(batch.last)
        blocks = batch.text.reshape(-1, block)
        order = jnp.arange(batch.text.size).reshape(-1, block)
        position = batch.position + prefix
        regions = []
        for start, count, lookback in [(0, slots, 0)] if batch.stride else regions_of(batch.reach):
            window = partial(_windows, start=start, blocks=count, lookback=lookback, axis=1)
            queries = slice(start, start + count)
            # Shifted by one, so that the zeros before the first block become -1.
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
            rows=TextRows.of(batch) if compute.last_in_rows else None,
        )


def regions_of(reach: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, blocks, lookback) of each region, from `Shape.reach`: per level, the blocks that look back so far."""
    found, start = [], 0
    for level, end in sorted(zip(LEVELS, reach, strict=True), reverse=True):
        if end > start:
            found.append((start, end - start, level))
            start = end
    return found
