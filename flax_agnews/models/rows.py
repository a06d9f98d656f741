"""Causal attention over rows of one padded text each, by `jax.nn.dot_product_attention` (XLA or cuDNN)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_agnews.models.forward_pass import BatchPass
from flax_agnews.models.text_rows import TextRows

_ALIGNED = 8  # cuDNN reads rows whose width is a multiple of this


def attend_rows(
    qkv: Float[Array, "tokens 3 heads head_width"], rows: TextRows, forward: BatchPass, scale: float
) -> Float[Array, "tokens heads head_width"]:
    """Softmax attention of every token to the prefix and to those before it in its text, without dropout on weights.

    Args:
        qkv: queries, keys and values.
        rows: indices of the batch's rows.
        forward: context of the pass, of which the prefix, the type of products and the implementation are used.
        scale: factor of the scores.

    Returns:
        Attention output of each token, of the type of products' operands; zero for padding.
    """
    out = []
    for number, row in enumerate(rows.split(qkv.astype(forward.compute.dtype))):
        q, k, v = (row[:, :, i] for i in range(3))
        before = 0
        if forward.prefix:
            before = len(forward.prefix[0])
            q = _after(jnp.zeros((before, *q.shape[2:]), q.dtype), q)
            k, v = (_after(prefix, x) for prefix, x in zip(forward.prefix, (k, v), strict=True))
        lengths = rows.of_group(rows.lengths, number) + before
        # Not by a mask: that would be turned into a bias, whose gradient would be computed too.
        mixed = jax.nn.dot_product_attention(
            q,
            k,
            v,
            scale=scale,
            is_causal=True,
            query_seq_lengths=lengths,
            key_value_seq_lengths=lengths,
            implementation="cudnn" if forward.compute.attention == "cudnn" else "xla",
        )
        out.append(mixed[:, before : before + row.shape[1]])
    return rows.join(tuple(out))


def _after(
    prefix: Float[Array, "prefix heads head_width"], rows: Float[Array, "texts width heads head_width"]
) -> Float[Array, "texts all heads head_width"]:
    """Puts a prefix, the same for all texts, before every row, and fills up to an aligned width."""
    # Broadcast in float32, so that the prefix's gradient is summed over the texts in float32.
    first = jnp.broadcast_to(prefix.astype(jnp.float32), (len(rows), *prefix.shape)).astype(rows.dtype)
    rest = -(len(prefix) + rows.shape[1]) % _ALIGNED
    return jnp.pad(jnp.concatenate([first, rows], axis=1), ((0, 0), (0, rest), (0, 0), (0, 0)))
