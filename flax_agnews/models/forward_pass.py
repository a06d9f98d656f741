"""What all layers share while tokens pass through a body: dropout, the type of products, layout and prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flax_agnews.models.dropout import Noise, Place, prompt_place
from flax_agnews.models.token_layout import Layout

KeysValues = tuple[Float[Array, "prefix heads head_width"], Float[Array, "prefix heads head_width"]]
"""The keys and values of a prefix in one layer, which every text of a batch sees before its own."""


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """What a layer has to know about the tokens that it gets.

    Attributes:
        dtype: of the operands of matrix products; sums, norms and the residual stream are float32.
        noise: source of dropout in training; None in evaluation.
        place: of the tokens, which seeds their dropout; None where nothing is dropped.
    """

    dtype: Any = jnp.float32
    noise: Noise | None = None
    place: Place | None = None

    @classmethod
    def of_prompt(cls, tokens: int, noise: Noise | None, dtype: Any) -> "ForwardPass":
        """The pass of a soft prompt of so many tokens, once for all texts."""
        return ForwardPass(dtype=dtype, noise=noise, place=prompt_place(tokens))

    def drop(
        self, x: Float[Array, "tokens width"], depth: int, site: int, rate: float | None = None
    ) -> Float[Array, "tokens width"]:
        """Dropout of hidden units, in training.

        Args:
            x: hidden units of the tokens.
            depth: 0 for the embedding, then the layer's number from 1.
            site: of the layer, as `dropout.SITES` counts them.
            rate: share that is dropped; by default the body's own at this site.
        """
        if self.noise is None or self.place is None:
            return x
        rate = self.noise.rate(depth, site) if rate is None else rate
        return self.noise.drop(x, rate, depth, site, self.place)


@dataclass(frozen=True, kw_only=True)
class BatchPass(ForwardPass):
    """The pass of all tokens of a batch.

    Attributes:
        place: of the tokens.
        layout: which tokens attend to which.
        prefix: keys and values that every text sees before its own, by layer; None where nothing stands before texts.
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
        """The pass of a batch with this layout."""
        return cls(dtype=dtype, noise=noise, place=layout.place, layout=layout, prefix=prefix)

    def before(self, depth: int) -> KeysValues | None:
        """The prefix of a layer; depth 1 is the first layer."""
        return self.prefix[depth - 1] if self.prefix else None

    def tokens(self, index: Int[Array | np.ndarray, " some"]) -> ForwardPass:
        """The pass of some of the tokens, for layers in which no token sees another."""
        return ForwardPass(dtype=self.dtype, noise=self.noise, place=self.place[index])


EXACT = ForwardPass()
"""Products in float32, nothing dropped: of a classifier's head."""
