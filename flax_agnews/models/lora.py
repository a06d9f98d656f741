"""LoRA's layer: a linear layer with a low-rank update (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Key

from flax_agnews.models.forward_pass import EXACT, ForwardPass
from flax_agnews.models.layers import Linear, product


def first_update(
    key: Key[Array, ""], n_in: int, n_out: int, rank: int
) -> tuple[Float32[Array, "inputs rank"], Float32[Array, "rank outputs"]]:
    """Initial values of lora_a and lora_b, whose product is zero.

    As in PEFT and loralib: A by kaiming_uniform_ with a = sqrt(5), which gives this bound, and B zero
    (https://github.com/microsoft/LoRA/blob/main/loralib/layers.py, `reset_parameters`).
    """
    return jax.random.uniform(key, (n_in, rank), minval=-1, maxval=1) / n_in**0.5, jnp.zeros((rank, n_out))


class Lora(Linear):
    """A linear layer with a low-rank update: x @ lora_a @ lora_b, scaled, is added to its output.

    Args:
        plain: the linear layer of the body.
        a, b: initial values of lora_a and lora_b.
        scale: factor of the update, alpha / rank.
        rate: dropout rate on the input of the update.
        site: coordinate of that dropout, as in `ForwardPass.drop`.
    """

    def __init__(
        self,
        plain: Linear,
        a: Float32[Array, "inputs rank"],
        b: Float32[Array, "rank outputs"],
        *,
        scale: float,
        rate: float,
        site: int,
    ) -> None:
        super().__init__(plain.kernel, plain.bias)
        self.lora_a, self.lora_b = nnx.Param(a), nnx.Param(b)
        self.scale, self.rate, self.site = scale, rate, site

    def __call__(
        self, x: Float[Array, "tokens inputs"], forward: ForwardPass = EXACT, columns: slice = slice(None)
    ) -> Float[Array, "tokens outputs"]:
        """As `Linear`."""
        y, compute = super().__call__(x, forward, columns), forward.compute
        x = forward.drop(x, self.site, self.rate)
        return y + product(self.scale * product(x, self.lora_a[...], compute), self.lora_b[...][:, columns], compute)

    @property
    def update(self) -> Float32[Array, "inputs outputs"]:
        """The low-rank update of the kernel, scaled."""
        return self.scale * jnp.matmul(self.lora_a[...], self.lora_b[...], precision="highest")

    def merged(self) -> Linear:
        """The plain linear layer that computes the same (without dropout): the update is added to its kernel."""
        return Linear(nnx.Param(self.kernel[...] + self.update), self.bias)

    def unmerged(self, plain: Linear) -> "Lora":
        """Undoes `merged`: subtracts this layer's update from the kernel of `plain`, and gives the layer with both."""
        base = Linear(nnx.Param(plain.kernel[...] - self.update), plain.bias)
        a, b = self.lora_a[...], self.lora_b[...]
        return Lora(base, a, b, scale=self.scale, rate=self.rate, site=self.site)
