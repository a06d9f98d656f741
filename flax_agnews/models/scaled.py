"""(IA)^3's layer: a linear layer with learned scales (Liu et al. 2022, https://arxiv.org/abs/2205.05638)."""

from flax import nnx
from jaxtyping import Array, Float, Float32

from flax_agnews.errors import UserError
from flax_agnews.models.forward_pass import EXACT, ForwardPass
from flax_agnews.models.layers import Linear


class Scaled(Linear):
    """A linear layer whose outputs (or inputs) are multiplied by learned scales, one per unit.

    Args:
        plain: the linear layer.
        scales: initial scales, one per output, or one per input if `feedforward`.
        feedforward: whether the input is scaled, as in PEFT's feedforward modules.
    """

    def __init__(self, plain: Linear, scales: Float32[Array, " units"], feedforward: bool) -> None:
        super().__init__(plain.kernel, plain.bias)
        self.ia3_l, self.feedforward = nnx.Param(scales), feedforward

    def __call__(
        self, x: Float[Array, "tokens inputs"], forward: ForwardPass = EXACT, columns: slice = slice(None)
    ) -> Float[Array, "tokens outputs"]:
        """As `Linear`."""
        scales = self.ia3_l[...]
        if self.feedforward:
            return super().__call__(x * scales, forward, columns)
        y = super().__call__(x, forward, columns)
        return (y * scales[columns]).astype(y.dtype)

    def merged(self) -> Linear:
        """The plain linear layer that computes the same, with the scales multiplied into its weights."""
        return self._times(self, self.ia3_l[...])

    def unmerged(self, plain: Linear) -> "Scaled":
        """Undoes `merged`: divides the weights of `plain` by this layer's scales, and gives the layer with both."""
        scales = self.ia3_l[...]
        if not scales.all():
            raise UserError("a scale of (IA)^3 is zero: what was merged can't be taken apart again")
        return Scaled(self._times(plain, 1 / scales), scales, self.feedforward)

    def _times(self, linear: Linear, scales: Float32[Array, " units"]) -> Linear:
        """A linear layer's weights multiplied by scales."""
        if self.feedforward:
            return Linear(nnx.Param(linear.kernel[...] * scales[:, None]), linear.bias)
        bias = None if linear.bias is None else nnx.Param(linear.bias[...] * scales)
        return Linear(nnx.Param(linear.kernel[...] * scales), bias)
