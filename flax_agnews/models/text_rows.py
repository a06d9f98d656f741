"""Moves tokens of a packed batch to rows of one padded text each, and back.

Texts stand longest first, so a few groups of rows, each about as wide as its texts, hold them with little padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from flax_agnews.data.batches import PADDING, Batch
from flax_agnews.data.shapes import BLOCK, LEVELS


class Group(NamedTuple):
    """Consecutive slots of a batch whose texts have rows of one width.

    Attributes:
        start: number of the first slot.
        slots: number of slots.
        width: tokens of a row; no text of these slots is longer.
    """

    start: int
    slots: int
    width: int


def groups_of(reach: Sequence[int], slots: int) -> list[Group]:
    """Groups of rows for every batch of a shape, the widest first.

    A text that looks back more than `level` blocks has more than `level * BLOCK` tokens, and so has every text before
    it. All of them lie in the blocks that `reach` counts, which limits their number.

    Args:
        reach: `Shape.reach`.
        slots: largest number of texts.
    """
    below = (0, *LEVELS[:-1])
    leading = [blocks * BLOCK // (level * BLOCK + 2) for blocks, level in zip(reach[1:], below[1:], strict=True)]
    ends = [slots, *(min(slots, most) for most in leading)]  # of the slots whose texts may look back so far
    found, start = [], 0
    for level, end in sorted(zip(LEVELS, ends, strict=True), reverse=True):
        if end > start:
            found.append(Group(start, end - start, min(level + 1, reach[0]) * BLOCK))
            start = end
    return found


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["lengths", "tokens", "places"],
    meta_fields=["groups"],
)
@dataclass(frozen=True)
class TextRows:
    """Gather indices from the flat token axis to groups of rows of one text each, and back.

    Attributes:
        groups: the groups (static).
        lengths: number of tokens of each slot's text; 1, not 0, for an empty slot.
        tokens: for each group, index on the token axis of each position of a row; beyond its end for padding.
        places: index in all groups' rows, one after the other, of each token; beyond their end for padding.
    """

    groups: tuple[Group, ...]
    lengths: Int[Array | np.ndarray, " slots"]
    tokens: tuple[Int[Array, "_ _"], ...]
    places: Int[Array, " tokens"]

    @classmethod
    def of(cls, batch: Batch) -> "TextRows":
        """Makes the indices for one device's micro-batch, a batch without leading axes."""
        tokens, slots = batch.text.size, len(batch.last)
        groups = [Group(0, slots, batch.stride)] if batch.stride else groups_of(batch.reach, slots)
        lengths = batch.position[batch.last] + 1
        first, used = batch.last + 1 - lengths, batch.text[batch.last] == jnp.arange(slots)
        index, row_starts, places = [], [], 0
        for start, count, width in groups:
            part, order = slice(start, start + count), jnp.arange(width)
            real = used[part, None] & (order < lengths[part, None])
            index.append(jnp.where(real, first[part, None] + order, tokens))
            row_starts.append(places + width * jnp.arange(count))
            places += count * width
        begins = jnp.concatenate(row_starts)[batch.text]
        return cls(
            groups=tuple(groups),
            lengths=lengths,
            tokens=tuple(index),
            places=jnp.where(batch.text != PADDING, begins + batch.position, places),
        )

    def split(self, x: Shaped[Array, "tokens *_"]) -> tuple[Shaped[Array, "_ _ *_"], ...]:
        """The rows of each group: [texts, width, ...]; zero where a row is padded."""
        return _split(x, self.tokens, self.places)

    def join(self, rows: tuple[Shaped[Array, "_ _ *_"], ...]) -> Shaped[Array, "tokens *_"]:
        """Undoes `split`; zero for tokens that are padding."""
        return _join(rows, self.tokens, self.places)

    def of_group(self, x: Shaped[Array | np.ndarray, "slots *_"], number: int) -> Shaped[Array, "texts *_"]:
        """The part of an array with a row for each slot that belongs to a group."""
        start, count, _ = self.groups[number]
        return jnp.asarray(x[start : start + count])


@jax.custom_vjp
def _split(x: Any, tokens: Any, places: Any) -> Any:
    return tuple(_take(x, index) for index in tokens)


@jax.custom_vjp
def _join(rows: Any, tokens: Any, places: Any) -> Any:
    return _take(jnp.concatenate([x.reshape(-1, *x.shape[2:]) for x in rows]), places)


# Each is the other's gradient: a gather, where autodiff would write zeros and scatter into them.
_split.defvjp(
    lambda x, tokens, places: (_split(x, tokens, places), (tokens, places)),
    lambda saved, rows: (_join(rows, *saved), None, None),
)
_join.defvjp(
    lambda rows, tokens, places: (_join(rows, tokens, places), (tokens, places)),
    lambda saved, x: (_split(x, *saved), None, None),
)


def _take(x: Shaped[Array, "entries *_"], index: Int[Array, "*shape"]) -> Shaped[Array, "*_"]:
    """x[index]; zero beyond the end."""
    return x.at[index].get(mode="fill", fill_value=0)
