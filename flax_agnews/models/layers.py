"""The smallest parts of a body: linear layers, tables of vectors, layer norm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from flax_agnews.models.dropout import Noise, Place


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: Array, kernel: Array, dtype: Any) -> Array:
    """x [tokens, in] @ kernel [in, out] -> [tokens, out] float32; operands in `dtype`, sums in float32.

    Autodiff would multiply the float32 cotangent by operands in `dtype`, which no processor does fast; here the
    cotangent is cast as well, so that all three products have operands of one type.
    """
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=jnp.float32)


def _forward(x: Array, kernel: Array, dtype: Any) -> tuple[Array, Any]:
    cast = x.astype(dtype)
    # An empty array carries x's own type to the backward pass.
    return product(cast, kernel, dtype), (cast, kernel, jnp.zeros(0, x.dtype))


def _backward(dtype: Any, saved: Any, cotangent: Array) -> tuple[Array, Array]:
    x, kernel, like = saved
    g = cotangent.astype(dtype)
    dx = jnp.einsum("to,io->ti", g, kernel.astype(dtype), preferred_element_type=jnp.float32)
    # The second contracted axis, of length one, changes nothing but the kernel that XLA picks on a CPU: twice as fast
    # in bfloat16 as "ti,to->io" (400 against 200 GFLOP/s, JAX 0.10.2 and 0.12 on an AVX512-BF16 processor).
    dw = jnp.einsum("nti,nto->io", x[None], g[None], preferred_element_type=jnp.float32)
    return dx.astype(like.dtype), dw.astype(kernel.dtype)


product.defvjp(_forward, _backward)


class Linear(nnx.Module):
    """x @ kernel + bias, with the kernel [in, out] as in GPT-2's Conv1D; products accumulate in float32.

    A strategy may replace one by a subclass that does more (`models.products`).
    """

    def __init__(self, kernel: nnx.Param, bias: nnx.Param | None) -> None:
        self.kernel, self.bias = kernel, nnx.data(bias)

    @classmethod
    def random(cls, key: Array, n_in: int, n_out: int, std: float, bias: bool = True) -> "Linear":
        """A normally distributed kernel, a bias of zero."""
        kernel = nnx.Param(std * jax.random.normal(key, (n_in, n_out)))
        return Linear(kernel, nnx.Param(jnp.zeros(n_out)) if bias else None)

    def __call__(
        self,
        x: Array,
        dtype: Any = jnp.float32,
        columns: slice = slice(None),
        noise: Noise | None = None,
        place: Place | None = None,
    ) -> Array:
        """x [tokens, in] -> [tokens, out] float32.

        Args:
            x: what comes in.
            dtype: of the product's operands.
            columns: of out, the only ones that are computed.
            noise, place: dropout's source in training and where the tokens stand, for subclasses that draw dropout.
        """
        y = product(x, self.kernel[...][:, columns], dtype)
        return y if self.bias is None else y + self.bias[...][columns]

    def merged(self) -> "Linear":
        """The same function as a plain linear layer."""
        return self

    def unmerged(self, plain: "Linear") -> "Linear":
        """The layer like this one whose `merged` is `plain`."""
        return plain


class Embed(nnx.Module):
    """A table of vectors [entries, embd]."""

    def __init__(self, key: Array, entries: int, width: int, std: float) -> None:
        self.embedding = nnx.Param(std * jax.random.normal(key, (entries, width)))

    def __call__(self, ids: Array) -> Array:
        """ids [tokens] -> [tokens, embd]. Ids are checked against the table before anything is compiled."""
        return self.embedding[...].at[ids].get(mode="promise_in_bounds")


class LayerNorm(nnx.Module):
    """Normalises the last axis, in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: Array) -> Array:
        """x [..., width] -> the same shape."""
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]
