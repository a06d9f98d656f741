"""Causal attention within each text of a batch whose texts are packed on one flat token axis, the longest first."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, UInt32

from flax_agnews.models import dropout
from flax_agnews.models.compute import Compute
from flax_agnews.models.dropout import LayerNoise, Place
from flax_agnews.models.forward_pass import BatchPass, ForwardPass, KeysValues
from flax_agnews.models.text_rows import TextRows

_NOTHING = -1e30  # score of a masked key: its weight is zero; finite, so that a row without any key stays finite


def attend(
    q: Float[Array, "blocks heads block head_width"],
    k: Float[Array, "blocks heads block head_width"],
    v: Float[Array, "blocks heads block head_width"],
    forward: BatchPass,
    scale: float,
) -> Float[Array, "blocks heads block head_width"]:
    """Softmax attention of every token, scores and weights in float32.

    Args:
        q, k, v: queries, keys and values. Where they are float32, keys and values are cast to the type of products only
            after the windows are taken: XLA on a CPU fuses the gradient of an earlier cast with that of the windows
            into one loop that takes 60 ms per layer at 124M, a sixth of a step.
        forward: context of the pass: layout, prefix, dropout and types of products.
        scale: factor of the scores.

    Returns:
        Attention output, of the type `forward.compute.results`.
    """
    layout, compute, prefix = forward.layout, forward.compute, forward.prefix
    q = (q.astype(jnp.float32) * scale).astype(compute.dtype)
    out = []
    for region in layout.regions:
        part = slice(region.start, region.start + region.blocks)
        keys, values = (region.windows(a, axis=2).astype(compute.dtype) for a in (k, v))
        scores = _scores("nhqd,nhkd->nhqk", q[part], keys, compute)
        scores = jnp.where(region.mask[:, None], scores, _NOTHING)
        if prefix:
            scores = jnp.concatenate([_scores("nhqd,khd->nhqk", q[part], prefix[0], compute), scores], axis=-1)
        # In float32, autodiff's own gradient reads nothing more, and keeps the digits of earlier versions.
        softmax = partial(_softmax, dtype=compute.results) if compute.results != jnp.float32 else jax.nn.softmax
        weights = softmax(scores)
        places = layout.place.blocks(layout.block)[part]
        weights = _drop(weights, places, _after(prefix, region.key_position), forward.noise).astype(compute.dtype)
        before = len(prefix[0]) if prefix else 0
        mixed = _mixed("nhqk,nhkd->nhqd", weights[..., before:], values, compute)
        if prefix:
            mixed = mixed + _mixed("nhqk,khd->nhqd", weights[..., :before], prefix[1], compute)
        out.append(mixed)
    return jnp.concatenate(out)


def attend_last(
    q: Float[Array, "texts heads head_width"],
    k: Float[Array, "tokens heads head_width"],
    v: Float[Array, "tokens heads head_width"],
    forward: BatchPass,
    scale: float,
) -> Float[Array, "texts heads head_width"]:
    """Softmax attention of each text's last token only, which is the pooled one and sees the whole text.

    Args:
        q: queries of the pooled tokens.
        k, v: keys and values of all tokens.
        forward, scale: as in `attend`.

    Returns:
        Attention output of the pooled tokens, of v's type.
    """
    layout, prefix, compute = forward.layout, forward.prefix, forward.compute
    if layout.rows is not None:
        return _attend_last_in_rows(q, k, v, layout.rows, forward, scale)
    if layout.apart:
        k, v = (a.reshape(len(q), -1, *a.shape[1:]) for a in (k, v))
        return _attend_own(q, k, v, layout.pooled, forward, scale)
    mask = layout.pooled
    if prefix:
        k, v = (jnp.concatenate(pair) for pair in zip(prefix, (k, v), strict=True))
        mask = jnp.concatenate([jnp.ones((len(mask), len(prefix[0])), bool), mask], axis=1)
    scores = _scores("shd,khd->hsk", q * jnp.asarray(scale, q.dtype), k, compute)
    weights = jax.nn.softmax(jnp.where(mask, scores, _NOTHING), axis=-1)
    positions = _after(prefix, layout.place.position[None])[0]
    weights = _drop(weights, layout.place[layout.last], positions, forward.noise)
    return _mixed("hsk,khd->shd", weights.astype(v.dtype), v, compute).astype(v.dtype)


def _attend_last_in_rows(
    q: Float[Array, "texts heads head_width"],
    k: Float[Array, "tokens heads head_width"],
    v: Float[Array, "tokens heads head_width"],
    rows: TextRows,
    forward: BatchPass,
    scale: float,
) -> Float[Array, "texts heads head_width"]:
    """`attend_last` with the keys and values of each text in a row of its own."""
    out, queries = [], forward.layout.place[forward.layout.last]
    for number, (keys, values) in enumerate(zip(rows.split(k), rows.split(v), strict=True)):
        own, order = partial(rows.of_group, number=number), jnp.arange(keys.shape[1])
        mask = order < own(rows.lengths)[:, None]
        place = Place(own(queries.text), own(queries.position))
        out.append(_attend_own(own(q), keys, values, mask, forward, scale, place))
    return jnp.concatenate(out)


def _attend_own(
    q: Float[Array, "texts heads head_width"],
    k: Float[Array, "texts keys heads head_width"],
    v: Float[Array, "texts keys heads head_width"],
    mask: Bool[Array, "texts keys"],
    forward: BatchPass,
    scale: float,
    queries: Place | None = None,
) -> Float[Array, "texts heads head_width"]:
    """Softmax attention of one query a text to the prefix and its own keys, which begin at the text's first token.

    Args:
        q, k, v: queries, keys and values.
        mask: true where a key belongs to the text.
        forward, scale: as in `attend`.
        queries: coordinates of the queries, for dropout of weights; without them, there is none.
    """
    prefix, compute = forward.prefix, forward.compute
    q = q * jnp.asarray(scale, q.dtype)
    scores = jnp.where(mask, _scores("shd,skhd->hsk", q, k, compute), _NOTHING)
    if prefix:
        scores = jnp.concatenate([_scores("shd,khd->hsk", q, prefix[0], compute), scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1)
    if queries is not None:
        weights = _drop(weights, queries, jnp.arange(weights.shape[-1]), forward.noise)
    weights = weights.astype(v.dtype)
    before = len(prefix[0]) if prefix else 0
    mixed = _mixed("hsk,skhd->shd", weights[..., before:], v, compute)
    if prefix:
        mixed = mixed + _mixed("hsk,khd->shd", weights[..., :before], prefix[1], compute)
    return mixed.astype(v.dtype)


def attend_prompt(
    q: Float[Array, "prefix heads head_width"],
    k: Float[Array, "prefix heads head_width"],
    v: Float[Array, "prefix heads head_width"],
    forward: ForwardPass,
    scale: float,
) -> Float[Array, "prefix heads head_width"]:
    """Causal attention among a soft prompt's own tokens, of v's type; arguments as in `attend`."""
    p, compute = len(q), forward.compute
    scores = _scores("qhd,khd->hqk", q * jnp.asarray(scale, q.dtype), k, compute)
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((p, p), bool)), scores, _NOTHING), axis=-1)
    weights = _drop(weights, dropout.prompt_place(p), jnp.arange(p), forward.noise)
    return _mixed("hqk,khd->qhd", weights.astype(v.dtype), v, compute).astype(v.dtype)


def _after(
    prefix: KeysValues | None, positions: Int[Array | np.ndarray, "n keys"]
) -> Int[Array | np.ndarray, "n all_keys"]:
    """Positions of the keys, with those of the prefix in front."""
    if not prefix:
        return positions
    before = jnp.broadcast_to(jnp.arange(len(prefix[0])), (len(positions), len(prefix[0])))
    return jnp.concatenate([before, positions], axis=1)


def _drop(
    weights: Float[Array, "*some heads queries keys"],
    queries: Place,
    positions: Int[Array | np.ndarray, "*some keys"],
    noise: LayerNoise | None,
) -> Float[Array, "*some heads queries keys"]:
    """Dropout of attention weights; the hash's unit is (head, position of the key)."""
    if noise is None or not (rate := noise.rates[1]):
        return weights
    rows = noise.rows(1, queries)[..., None, :, None]
    units = jnp.moveaxis(_units(weights.shape[-3], positions[..., None, :]), 0, -3)
    return dropout.apply(weights, dropout.keep(rows, units, rate), rate)


def _units(heads: int, positions: Int[Array | np.ndarray, "*shape"]) -> UInt32[Array, "heads *shape"]:
    """A different number for every (head, key position), for positions below 2^16."""
    head = jnp.arange(heads, dtype=jnp.uint32).reshape(-1, *[1] * positions.ndim)
    return head * jnp.uint32(2**16) + positions.astype(jnp.uint32)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _softmax(scores: Float32[Array, "*some keys"], dtype: Any) -> Float[Array, "*some keys"]:
    """Softmax over the last axis, computed in float32; the gradient reads the result as written, not in float32."""
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _softmax_forward(scores: Float32[Array, "*some keys"], dtype: Any) -> Any:
    weights = _softmax(scores, dtype)
    return weights, weights


def _softmax_backward(dtype: Any, weights: Float[Array, "*some keys"], g: Float[Array, "*some keys"]) -> Any:
    weights = weights.astype(jnp.float32)
    part = weights * g.astype(jnp.float32)
    # XLA makes one kernel for a GPU where a sum is subtracted from what is summed, and is used for nothing else; it
    # would make two, which read everything twice, for `part - weights * sum`. The sum is the difference of the two.
    less = part - part.sum(-1, keepdims=True)
    return (part - weights * (part - less),)


_softmax.defvjp(_softmax_forward, _softmax_backward)


def _scores(equation: str, q: Float[Array, "..."], k: Float[Array, "..."], compute: Compute) -> Float32[Array, "..."]:
    """Products of queries and keys, in float32 for the softmax."""
    return _product(equation, q, k, compute, jnp.float32)


def _mixed(
    equation: str, weights: Float[Array, "..."], v: Float[Array, "..."], compute: Compute
) -> Float[Array, "..."]:
    """Sums of values by their weights."""
    return _product(equation, weights, v, compute, compute.results)


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _product(equation: str, a: Float[Array, "..."], b: Float[Array, "..."], compute: Compute, result: Any) -> Any:
    """An einsum with sums in float32, written as `result`.

    Autodiff would multiply the scores' float32 cotangent by bfloat16 operands, for which XLA casts these to float32: on
    a GPU all that the backward pass reads and writes would be twice as large. The custom gradient casts the cotangent
    to the type of results.
    """
    return jnp.einsum(equation, a, b, preferred_element_type=result)


def _product_forward(equation: str, a: Any, b: Any, compute: Compute, result: Any) -> Any:
    return _product(equation, a, b, compute, result), (a, b)


def _product_backward(equation: str, compute: Compute, result: Any, saved: Any, g: Any) -> Any:
    plain = partial(jnp.einsum, equation, preferred_element_type=compute.results)
    return jax.vjp(plain, *saved)[1](g.astype(compute.results))


_product.defvjp(_product_forward, _product_backward)
