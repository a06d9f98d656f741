"""Causal attention over rows of one padded text each, by `jax.nn.dot_product_attention` (XLA or cuDNN).

Not measured on a GPU yet, and cuDNN's not run on one; `auto` is therefore the blocks of `models.attention` everywhere.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from flax_agnews.data.batches import PADDING, Batch
from flax_agnews.data.shapes import BLOCK, LEVELS
from flax_agnews.errors import UserError, flag
from flax_agnews.models.dropout import Rates

Way = Literal["blocks", "rows", "cudnn"]
"""Implementation of attention: in blocks of the packed token axis, or in rows of one text each, by XLA or cuDNN."""


def check_attention(
    way: Way, strategy: str, dtype: str, *, head_width: int, rates: Rates, prefix: int, device: Any
) -> None:
    """Raises a `UserError`, before anything is compiled, where an implementation of attention can't be used.

    Args:
        way: the implementation that `model.attention` chooses.
        strategy: name of the strategy.
        dtype: type of matrix products.
        head_width: width of an attention head.
        rates: dropout rates.
        prefix: number of tokens that the strategy puts before every text.
        device: one of the devices that compute.
    """
    if way == "blocks":
        return

    def require(ok: bool, reason: str) -> None:
        if not ok:
            raise UserError(f"{flag('model.attention')} {way}: {reason}")

    quiet = rates.attn == 0 or not any(rates.noisy[1:])
    require(
        quiet,
        f"{strategy} drops {rates.attn} of the attention weights; set {flag('model.dropout')} 0, or choose blocks",
    )
    require(not prefix, f"{strategy} puts {prefix} tokens before every text; choose blocks")
    if way == "cudnn":
        # Limits of jax/_src/cudnn/fused_attention_stablehlo.py (check_layout, check_is_flash_attention), and for the
        # GPU of https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
        require(
            dtype == "bfloat16", f"takes {flag('model.dtype')} bfloat16, not {dtype}; set it, or choose rows or blocks"
        )
        nvidia = device.platform == "gpu" and "cuda" in device.client.platform_version
        generation = int(device.compute_capability.split(".")[0]) if nvidia else 0
        needs = "needs an NVIDIA GPU of compute capability 8.0 or newer"
        require(generation >= 8, f"{needs}, not {device.device_kind}; choose rows or blocks")
        most = 256 if generation >= 9 else 128
        fits = head_width % 8 == 0 and head_width <= most
        require(fits, f"takes heads of a multiple of 8, at most {most}, not {head_width} wide; choose rows or blocks")


def longest(reach: tuple[int, ...]) -> int:
    """Upper bound of the tokens of a text in a batch, a multiple of the block's.

    Args:
        reach: `Shape.reach` of the batch, from which follows how many blocks a text can span.
    """
    lookback = max(level for level, blocks in zip(LEVELS, reach, strict=True) if blocks)
    return min(lookback + 1, reach[0]) * BLOCK


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["lengths", "tokens", "places"],
    meta_fields=["implementation"],
)
@dataclass(frozen=True)
class TextRows:
    """Gather indices from the flat token axis to rows of one text each, and back.

    Attributes:
        implementation: implementation of `jax.nn.dot_product_attention`.
        lengths: number of tokens of each row; 1, not 0, for an empty slot.
        tokens: index on the token axis of each position of a row.
        places: index in the flattened rows of each token.

    For padding, `tokens` and `places` point beyond the end, each to a different index: reads from there give zero,
    gradients are dropped, and no index occurs twice.
    """

    implementation: Literal["xla", "cudnn"]
    lengths: Int[Array | np.ndarray, " texts"]
    tokens: Int[Array, "texts longest"]
    places: Int[Array, " tokens"]

    @classmethod
    def of(cls, batch: Batch, implementation: Literal["xla", "cudnn"]) -> "TextRows":
        """Makes the indices for one device's micro-batch, a batch without leading axes."""
        tokens, slots, width = batch.text.size, len(batch.last), longest(batch.reach)
        lengths = batch.position[batch.last] + 1
        order = jnp.arange(width)
        index = (batch.last + 1 - lengths)[:, None] + order
        used = batch.text[batch.last] == jnp.arange(slots)
        real = used[:, None] & (order < lengths[:, None])
        beyond = tokens + jnp.arange(slots * width).reshape(slots, width)
        return cls(
            implementation=implementation,
            lengths=lengths,
            tokens=jnp.where(real, index, beyond),
            places=jnp.where(
                batch.text != PADDING, batch.text * width + batch.position, slots * width + jnp.arange(tokens)
            ),
        )


def attend_rows(
    qkv: Float32[Array, "tokens 3 heads head_width"], rows: TextRows, scale: float, dtype: Any
) -> Float[Array, "tokens heads head_width"]:
    """Softmax attention of every token to those before it in its text; scores and the softmax in float32.

    Without a prefix, and without dropout on attention weights.

    Args:
        qkv: queries, keys and values.
        rows: indices of the batch's rows.
        scale: factor of the scores.
        dtype: type of the operands of products, and of the result.

    Returns:
        Attention output of each token; zero for padding.
    """
    q, k, v = jnp.moveaxis(_take(qkv.astype(dtype), rows.tokens), 2, 0)
    # Not by a mask: that would be turned into a bias, whose gradient would be computed too.
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=scale,
        is_causal=True,
        query_seq_lengths=rows.lengths,
        key_value_seq_lengths=rows.lengths,
        implementation=rows.implementation,
    )
    return _take(out.reshape(-1, *out.shape[2:]), rows.places)


def _take(x: Float[Array, "entries *_"], index: Int[Array, "*shape"]) -> Float[Array, "*shape_and_rest"]:
    """x[index], zero beyond the end; gradients of padding are dropped, whatever cuDNN left there."""
    return x.at[index].get(mode="fill", fill_value=0, unique_indices=True)
