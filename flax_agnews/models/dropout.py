"""Dropout whose masks are functions of (seed, step, site, text, position, unit).

They don't depend on how a batch is arranged: packing, micro-batches, devices and vmapped seeds draw the same masks.

The bits come from a counter-based hash: the 32-bit finalizer of MurmurHash3 (Appleby, 2011,
https://github.com/aappleby/smhasher), folded over the coordinates.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, UInt32

PROMPT_TEXT = 0xFFFFFFFF
"""Text number of a soft prompt's tokens, which are computed once for all texts."""

SITES = 4  # a layer's sites: 0 embedding (or unused), 1 attention weights, 2 attention output, 3 MLP output

ADDED_SITES = 2**16
"""First site number for modules that a strategy adds to a layer, above the numbers of all layers' own sites."""


@dataclass(frozen=True)
class Rates:
    """Dropout rates of GPT-2's three kinds of site, 0 to 1, and the layers in which they hold.

    Attributes:
        embd, attn, resid: `embd_pdrop`, `attn_pdrop`, `resid_pdrop` of config.json.
        noisy: [layers + 1] whether the embedding (0) and each layer (1, 2, ...) have dropout in training.
    """

    embd: float
    attn: float
    resid: float
    noisy: tuple[bool, ...]


@partial(jax.tree_util.register_dataclass, data_fields=["text", "position"], meta_fields=[])
@dataclass(frozen=True)
class Place:
    """Token coordinates that seed dropout, which don't depend on how the batch is arranged.

    Attributes:
        text: number of each token's text in the whole batch; `PROMPT_TEXT` for tokens of a soft prompt.
        position: position of each token in its text, counted from the beginning of the prompt if there is one.
    """

    text: UInt32[Array | np.ndarray, "*tokens"]
    position: Integer[Array | np.ndarray, "*tokens"]

    def __getitem__(self, index: Any) -> "Place":
        """The coordinates of some of the tokens."""
        return Place(self.text[index], self.position[index])

    def blocks(self, size: int) -> "Place":
        """The coordinates reshaped to [blocks, size]."""
        return Place(self.text.reshape(-1, size), self.position.reshape(-1, size))


def prompt_place(tokens: int) -> Place:
    """The coordinates of a soft prompt's tokens."""
    return Place(jnp.full(tokens, PROMPT_TEXT, jnp.uint32), jnp.arange(tokens))


@dataclass(frozen=True)
class Noise:
    """The source of dropout masks in one step of training.

    Attributes:
        seed, step: seed of the run and number of the update; traced.
        rates: dropout rates; static.
    """

    seed: Integer[Array, ""]
    step: Integer[Array, ""]
    rates: Rates

    def layer(self, depth: int) -> "LayerNoise":
        """The source of a layer's masks; `depth` is 0 for the embedding, then the layer's number from 1."""
        rates = (self.rates.embd, self.rates.attn, self.rates.resid, self.rates.resid)
        own = rates if self.rates.noisy[depth] else (0.0,) * SITES
        # Behind the barrier XLA doesn't see a constant, of which it would compile a variant for each layer.
        number = jax.lax.optimization_barrier(jnp.uint32(depth))
        return LayerNoise(self.seed, self.step, number, own)


@partial(jax.tree_util.register_dataclass, data_fields=["seed", "step", "depth"], meta_fields=["rates"])
@dataclass(frozen=True)
class LayerNoise:
    """The source of one layer's dropout masks. The layer's number is traced, so that all layers can be one function.

    Attributes:
        seed, step: as in `Noise`.
        depth: 0 for the embedding, then the layer's number from 1; traced.
        rates: the body's dropout rate at each site, 0 where it has none; static.
    """

    seed: Integer[Array, ""]
    step: Integer[Array, ""]
    depth: UInt32[Array, ""]
    rates: tuple[float, ...]

    def rows(self, site: int, place: Place) -> UInt32[Array, "*tokens"]:
        """A 32-bit hash of seed, step, layer, site and coordinates for each token, in the shape of `place`."""
        key = fold(fold(self.depth * jnp.uint32(SITES) + jnp.uint32(site), self.seed), self.step)
        return fold(fold(key, place.text.astype(jnp.uint32)), place.position.astype(jnp.uint32))

    def drop(
        self, x: Float[Array, "tokens width"], site: int, place: Place, rate: float | None = None
    ) -> Float[Array, "tokens width"]:
        """Dropout of x: each unit becomes zero, or is scaled by 1 / (1 - rate); by default at the body's rate."""
        rate = self.rates[site] if rate is None else rate
        if rate == 0:
            return x
        units = jnp.arange(x.shape[-1], dtype=jnp.uint32)
        return apply(x, keep(self.rows(site, place)[:, None], units, rate), rate)


def mix(h: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """MurmurHash3's 32-bit finalizer: a bijection of uint32 in which every input bit reaches every output bit."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def fold(h: UInt32[Array, "*some"], value: Integer[Array | np.ndarray, "*others"]) -> UInt32[Array, "*all"]:
    """Combines a hash with one more coordinate; the shapes are broadcast."""
    return mix(h * jnp.uint32(5) + jnp.uint32(0xE6546B64) ^ value * jnp.uint32(0x9E3779B1))


def keep(rows: UInt32[Array, "*some"], units: UInt32[Array, "*others"], rate: float) -> Bool[Array, "*all"]:
    """The dropout mask: true (kept) with probability 1 - rate.

    Args:
        rows: hashes of tokens (`Noise.rows`).
        units: numbers of the units; broadcast with `rows`.
        rate: share of units to drop, 0 to 1.
    """
    return mix(rows ^ (units * jnp.uint32(0x9E3779B1))) >= jnp.uint32(min(rate * 2**32, 2**32 - 1))


def apply(x: Float[Array, "*shape"], kept: Bool[Array, "*shape"], rate: float) -> Float[Array, "*shape"]:
    """x / (1 - rate) where kept, zero elsewhere; computed in float32, since bfloat16 has no number near 0.9."""
    with jax.named_scope("dropout"):
        return jnp.where(kept, (x.astype(jnp.float32) / (1 - rate)).astype(x.dtype), jnp.zeros_like(x))
