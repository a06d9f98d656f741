"""The layer of adapters: a linear layer followed by a bottleneck (Houlsby et al. 2019, see `strategies.adapter`)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from flax_agnews.errors import UserError
from flax_agnews.models.forward_pass import EXACT, ForwardPass
from flax_agnews.models.gpt2 import activate
from flax_agnews.models.layers import Linear

_STD = 1e-2
"""Standard deviation of the first weights, cut at two deviations: nearly the identity (Houlsby et al., section 3.1)."""


class Bottleneck(Linear):
    """A linear layer followed by a bottleneck: y + up(activation(down(y))), where y is the linear layer's output.

    Args:
        plain: the linear layer of the body.
        down, up: linear layers of the bottleneck.
        activation: name of the activation between them, as in config.json.
    """

    def __init__(self, plain: Linear, down: Linear, up: Linear, activation: str) -> None:
        super().__init__(plain.kernel, plain.bias)
        self.adapter_down, self.adapter_up, self.activation = down, up, activation

    def __call__(
        self, x: Float[Array, "tokens inputs"], forward: ForwardPass = EXACT, columns: slice = slice(None)
    ) -> Float[Array, "tokens outputs"]:
        """As `Linear`."""
        y = super().__call__(x, forward)
        inner = activate(self.activation, self.adapter_down(y, forward))
        return (y + self.adapter_up(inner, forward))[:, columns]

    def merged(self) -> Linear:
        """Raises a `UserError`: a bottleneck is no linear function."""
        raise UserError("a bottleneck adapter isn't linear and can't be merged into the body")

    def unmerged(self, plain: Linear) -> Linear:
        """Raises the same `UserError`."""
        return self.merged()


def first_linear(key: Key[Array, ""], n_in: int, n_out: int) -> Linear:
    """A linear layer of a new bottleneck: small random kernel, bias of zero."""
    kernel = _STD * jax.random.truncated_normal(key, -2, 2, (n_in, n_out))
    return Linear(nnx.Param(kernel), nnx.Param(jnp.zeros(n_out)))
