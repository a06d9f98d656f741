"""The basic modules of a body: linear layers, embedding tables and layer norm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Float32, Int, Key

from flax_agnews.models.compute import Compute
from flax_agnews.models.forward_pass import EXACT, ForwardPass

PRODUCT = "product"
"""Name of a product's left operand and result among what `jax.checkpoint` may keep."""


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    x: Float[Array, "tokens inputs"], kernel: Float[Array, "inputs outputs"], compute: Compute
) -> Float[Array, "tokens outputs"]:
    """The matrix product x @ kernel; operands, result and the gradient of x have the types of `compute`.

    Autodiff would multiply a float32 cotangent by operands in `compute.dtype`, which no processor does fast; the custom
    gradient casts the cotangent too, so that all three products have operands of one type. Sums are float32, and so
    is the kernel's gradient.
    """
    return _linear("ti,io->to", x.astype(compute.dtype), kernel.astype(compute.dtype), compute.results)


def _forward(
    x: Float[Array, "tokens inputs"], kernel: Float[Array, "inputs outputs"], compute: Compute
) -> tuple[Float[Array, "tokens outputs"], Any]:
    cast = checkpoint_name(x.astype(compute.dtype), PRODUCT)
    # An empty array carries x's own type to the backward pass.
    return checkpoint_name(product(cast, kernel, compute), PRODUCT), (cast, kernel, jnp.zeros(0, x.dtype))


def _backward(
    compute: Compute, saved: Any, cotangent: Float[Array, "tokens outputs"]
) -> tuple[Float[Array, "tokens inputs"], Float[Array, "inputs outputs"]]:
    x, kernel, like = saved
    g = cotangent.astype(compute.dtype)
    dx = _linear("to,io->ti", g, kernel.astype(compute.dtype), compute.results)
    # The second contracted axis, of length one, changes nothing but the kernel that XLA picks on a CPU: twice as fast
    # in bfloat16 as "ti,to->io" (400 against 200 GFLOP/s, JAX 0.10.2 and 0.12 on an AVX512-BF16 processor).
    dw = _linear("nti,nto->io", x[None], g[None], jnp.float32)
    return dx.astype(like.dtype), dw.astype(kernel.dtype)


product.defvjp(_forward, _backward)


def _linear(equation: str, a: Float[Array, "..."], b: Float[Array, "..."], result: Any) -> Any:
    with jax.named_scope("linear"):
        return jnp.einsum(equation, a, b, preferred_element_type=result)


class Linear(nnx.Module):
    """A linear layer, x @ kernel + bias; products accumulate in float32, and the bias is added in float32.

    A strategy may replace it by a subclass with an adapter (see `models.linear_replacement`).

    Args:
        kernel: [inputs, outputs], as in GPT-2's Conv1D.
        bias: [outputs]; None for a layer without.
    """

    def __init__(self, kernel: nnx.Param, bias: nnx.Param | None) -> None:
        self.kernel, self.bias = kernel, nnx.data(bias)

    @classmethod
    def random(cls, key: Key[Array, ""], n_in: int, n_out: int, std: float, bias: bool = True) -> "Linear":
        """A layer with a normally distributed kernel of standard deviation `std`, and a bias of zero."""
        kernel = nnx.Param(std * jax.random.normal(key, (n_in, n_out)))
        return Linear(kernel, nnx.Param(jnp.zeros(n_out)) if bias else None)

    def __call__(
        self, x: Float[Array, "tokens inputs"], forward: ForwardPass = EXACT, columns: slice = slice(None)
    ) -> Float[Array, "tokens outputs"]:
        """The layer's outputs for every token, of the type `forward.compute.results`.

        Args:
            x: inputs.
            forward: context of the pass: types of products, and dropout for subclasses that have it.
            columns: the outputs to compute; by default all.
        """
        y = product(x, self.kernel[...][:, columns], forward.compute)
        return y if self.bias is None else (y + self.bias[...][columns]).astype(y.dtype)

    def merged(self) -> "Linear":
        """The plain linear layer that computes the same: in subclasses, with the adapter in its weights."""
        return self

    def unmerged(self, plain: "Linear") -> "Linear":
        """Undoes `merged`: takes this layer's adapter out of the weights of `plain`, and gives the layer with both."""
        return plain


class Embed(nnx.Module):
    """An embedding table, of the vocabulary or of positions.

    Args:
        key: random key of the initial values.
        entries: number of vectors.
        width: length of each vector.
        std: standard deviation of the initial values.
    """

    def __init__(self, key: Key[Array, ""], entries: int, width: int, std: float) -> None:
        self.embedding = nnx.Param(std * jax.random.normal(key, (entries, width)))

    def __call__(self, ids: Int[Array | np.ndarray, " tokens"]) -> Float[Array, "tokens width"]:
        """The vectors of ids, which must be in bounds: the data is checked before anything is compiled."""
        return self.embedding[...].at[ids].get(mode="promise_in_bounds")


class LayerNorm(nnx.Module):
    """Layer norm: normalises the last axis, in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: Float32[Array, "*axes width"], result: Any = jnp.float32) -> Float[Array, "*axes width"]:
        """Normalises, scales and shifts each vector.

        Args:
            x: vectors.
            result: type of what is returned, that of the operands which are multiplied next.
        """
        with jax.named_scope("norm"):
            return _normalised(x, self.scale[...], self.bias[...], self.epsilon, result)


@partial(jax.checkpoint, static_argnums=(3, 4), prevent_cse=False)
def _normalised(
    x: Float32[Array, "*axes width"],
    scale: Float[Array, " width"],
    bias: Float[Array, " width"],
    epsilon: float,
    result: Any,
) -> Float[Array, "*axes width"]:
    # The backward pass computes all this again from x, which is quicker than to read it from memory.
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + epsilon)
    # In float32, autodiff's own gradient keeps the digits of earlier versions.
    scaled = normal * scale if result == jnp.float32 else _scaled(normal, scale, result)
    return (scaled + bias).astype(result)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scaled(
    x: Float32[Array, "*axes width"], scale: Float[Array, " width"], result: Any
) -> Float[Array, "*axes width"]:
    """x * scale. The scale's gradient is summed in float32 from terms rounded to `result`, as their factors g are.

    A GPU can't sum over tokens in the kernel that normalises them, so the terms go through memory.
    """
    return x * scale


def _scaled_forward(x: Any, scale: Any, result: Any) -> Any:
    return _scaled(x, scale, result), (x, scale)


def _scaled_backward(result: Any, saved: Any, g: Any) -> Any:
    x, scale = saved
    terms = (g * x).astype(result)
    return g * scale, terms.astype(jnp.float32).reshape(-1, len(scale)).sum(0)


_scaled.defvjp(_scaled_forward, _scaled_backward)
