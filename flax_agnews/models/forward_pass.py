"""The context of a forward pass: compute type, dropout, layout of the tokens and prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from flax_agnews.models.compute import FLOAT32, Compute
from flax_agnews.models.dropout import LayerNoise, Noise, Place, prompt_place
from flax_agnews.models.token_layout import Layout

KeysValues = tuple[Float[Array, "prefix heads head_width"], Float[Array, "prefix heads head_width"]]
"""The keys and values of a prefix in one layer, which precede those of every text."""


@partial(jax.tree_util.register_dataclass, data_fields=["noise", "place"], meta_fields=["compute"])
@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """The context of a forward pass in a layer that treats each token separately.

    Attributes:
        compute: types of matrix products and their results; sums, norms and the residual stream are float32.
        noise: source of the layer's dropout in training; None in evaluation.
        place: coordinates of the tokens, which seed their dropout; None without dropout.
    """

    compute: Compute = FLOAT32
    noise: LayerNoise | None = None
    place: Place | None = None

    @classmethod
    def of_prompt(cls, tokens: int, noise: LayerNoise | None, compute: Compute) -> "ForwardPass":
        """The context for the tokens of a soft prompt, which are computed once for all texts."""
        return ForwardPass(compute=compute, noise=noise, place=prompt_place(tokens))

    @property
    def drops_weights(self) -> bool:
        """Whether the layer has dropout on attention weights."""
        return self.noise is not None and self.noise.rates[1] > 0

    def drop(
        self, x: Float[Array, "tokens width"], site: int, rate: float | None = None
    ) -> Float[Array, "tokens width"]:
        """Applies dropout to hidden units in training; returns them unchanged in evaluation.

        Args:
            x: hidden units of the tokens.
            site: number of the site in the layer, see `dropout.SITES`.
            rate: dropout rate; by default the body's at this site.
        """
        if self.noise is None or self.place is None:
            return x
        return self.noise.drop(x, site, self.place, rate)


@partial(jax.tree_util.register_dataclass, data_fields=["noise", "place", "layout", "prefix"], meta_fields=["compute"])
@dataclass(frozen=True, kw_only=True)
class BatchPass(ForwardPass):
    """The context of a batch's forward pass in one layer, with what attention needs.

    Attributes:
        place: coordinates of the tokens.
        layout: which tokens attend to which.
        prefix: keys and values that precede those of every text; None without a prompt or prefix.
    """

    place: Place
    layout: Layout
    prefix: KeysValues | None = None

    def tokens(self, index: Int[Array | np.ndarray, " some"]) -> ForwardPass:
        """The context for some of the tokens, for layers in which no token sees another."""
        return ForwardPass(compute=self.compute, noise=self.noise, place=self.place[index])


@dataclass(frozen=True)
class BodyPass:
    """The context of a batch's forward pass through the whole body.

    Attributes:
        layout: which tokens attend to which.
        noise: source of dropout in training; None in evaluation.
        compute: types of matrix products and their results.
        prefix: keys and values that precede those of every text, by layer; None without a prompt or prefix.
    """

    layout: Layout
    noise: Noise | None = None
    compute: Compute = FLOAT32
    prefix: Sequence[KeysValues] | None = None

    def layer(self, index: int) -> BatchPass:
        """The context in a layer; `index` counts from 0."""
        noise = None if self.noise is None else self.noise.layer(index + 1)
        prefix = self.prefix[index] if self.prefix else None
        return BatchPass(compute=self.compute, noise=noise, place=self.layout.place, layout=self.layout, prefix=prefix)


EXACT = ForwardPass()
"""Float32 without dropout."""
