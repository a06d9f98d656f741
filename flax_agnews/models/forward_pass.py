"""The context of a forward pass, which all layers share: compute type, dropout, layout of the tokens and prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flax_agnews.models.dropout import Noise, Place, prompt_place
from flax_agnews.models.token_layout import Layout

KeysValues = tuple[Float[Array, "prefix heads head_width"], Float[Array, "prefix heads head_width"]]
"""The keys and values of a prefix in one layer, which precede those of every text."""


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """The context of a forward pass for layers that treat each token separately.

    Attributes:
        dtype: type of the operands of matrix products; sums, norms and the residual stream are float32.
        noise: source of dropout in training; None in evaluation.
        place: coordinates of the tokens, which seed their dropout; None without dropout.
    """

    dtype: Any = jnp.float32
    noise: Noise | None = None
    place: Place | None = None

    @classmethod
    def of_prompt(cls, tokens: int, noise: Noise | None, dtype: Any) -> "ForwardPass":
        """The context for the tokens of a soft prompt, which are computed once for all texts."""
        return ForwardPass(dtype=dtype, noise=noise, place=prompt_place(tokens))

    def drop(
        self, x: Float[Array, "tokens width"], depth: int, site: int, rate: float | None = None
    ) -> Float[Array, "tokens width"]:
        """Applies dropout to hidden units in training; returns them unchanged in evaluation.

        Args:
            x: hidden units of the tokens.
            depth: 0 for the embedding, then the layer's number from 1.
            site: number of the site in the layer, see `dropout.SITES`.
            rate: dropout rate; by default the body's at this site.
        """
        if self.noise is None or self.place is None:
            return x
        rate = self.noise.rate(depth, site) if rate is None else rate
        return self.noise.drop(x, rate, depth, site, self.place)


@dataclass(frozen=True, kw_only=True)
class BatchPass(ForwardPass):
    """The context of a forward pass of a batch, with what attention needs.

    Attributes:
        place: coordinates of the tokens.
        layout: which tokens attend to which.
        prefix: keys and values that precede those of every text, by layer; None without a prompt or prefix.
    """

    place: Place
    layout: Layout
    prefix: Sequence[KeysValues] | None = None

    @classmethod
    def of(
        cls,
        layout: Layout,
        noise: Noise | None = None,
        dtype: Any = jnp.float32,
        prefix: Sequence[KeysValues] | None = None,
    ) -> "BatchPass":
        """Makes the context of a batch with a given layout."""
        return cls(dtype=dtype, noise=noise, place=layout.place, layout=layout, prefix=prefix)

    def before(self, depth: int) -> KeysValues | None:
        """The prefix's keys and values in a layer; depth 1 is the first layer."""
        return self.prefix[depth - 1] if self.prefix else None

    def tokens(self, index: Int[Array | np.ndarray, " some"]) -> ForwardPass:
        """The context for some of the tokens, for layers in which no token sees another."""
        return ForwardPass(dtype=self.dtype, noise=self.noise, place=self.place[index])


EXACT = ForwardPass()
"""Float32 without dropout, as the classification head is computed."""
