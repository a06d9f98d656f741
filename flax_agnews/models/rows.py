"""Causal attention over rows of one text each, padded to the longest: the form that XLA and cuDNN have a function for.

Not measured on a GPU yet, and cuDNN's not run on one; `auto` is therefore the blocks of `models.attention` everywhere.
"""

from dataclasses import dataclass
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
"""The way in which tokens attend: in local blocks of the token axis, or in rows of a text each by XLA or cuDNN."""


def check_attention(
    way: Way, strategy: str, dtype: str, *, head_width: int, rates: Rates, prefix: int, device: Any
) -> None:
    """Raises a `UserError` before anything is compiled where a way to attend doesn't go with the rest.

    Args:
        way: what `model.attention` asks for.
        strategy: its name.
        dtype: of matrix products.
        head_width: of the body.
        rates: of dropout, and where.
        prefix: tokens that the strategy puts before every text.
        device: one of those that compute.
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
    """The most tokens that a text has in a batch.

    Args:
        reach: of the batch's shape (`Shape.reach`), from which follows how many blocks a text stands in.
    """
    lookback = max(level for level, blocks in zip(LEVELS, reach, strict=True) if blocks)
    return min(lookback + 1, reach[0]) * BLOCK


@dataclass(frozen=True)
class TextRows:
    """Indices from the flat token axis to rows of one text each, and back.

    Attributes:
        implementation: of the attention.
        lengths: tokens of each row; 1, not 0, where there is no text.
        tokens: where on the token axis each token of a row is.
        places: where in the rows, one behind the other, each token is.

    Where there is none, `tokens` and `places` point beyond the end, each time to another place: what is read from there
    is zero, what is written there is lost, and no index occurs twice.
    """

    implementation: Literal["xla", "cudnn"]
    lengths: Int[Array | np.ndarray, " texts"]
    tokens: Int[Array, "texts longest"]
    places: Int[Array, " tokens"]

    @classmethod
    def of(cls, batch: Batch, implementation: Literal["xla", "cudnn"]) -> "TextRows":
        """The rows of one device's micro-batch, a batch without leading axes."""
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
        rows: of the batch.
        scale: what scores are multiplied by.
        dtype: of the operands of products, and of the result.

    Returns:
        What each token gets; zero for padding.
    """
    q, k, v = jnp.moveaxis(_take(qkv.astype(dtype), rows.tokens), 2, 0)
    # Lengths and `is_causal` only: a mask would be turned into a bias, which has a gradient of its own.
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
    """x[index], zero beyond the end; from there nothing comes back in the backward pass, whatever cuDNN left there."""
    return x.at[index].get(mode="fill", fill_value=0, unique_indices=True)
