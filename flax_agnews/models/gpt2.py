"""GPT-2's body (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") on a flat token axis.

Names are GPT-2's own, as in the hub's checkpoints: wte, wpe, h/{i}/{ln_1, attn, ln_2, mlp}, ln_f.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from flax_agnews.errors import UserError, nearest
from flax_agnews.models.attention import Layout, attend
from flax_agnews.models.dropout import Noise

# config.json's names -> functions, as transformers.activations.ACT2FN has them.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "gelu": partial(jax.nn.gelu, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def _number(least: float, below: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value < below


_WHOLE = (lambda value: type(value) is int and value >= 1, "a whole number, 1 or more")
_RATE = (_number(0, 1), "a number, at least 0 and below 1")
_SIZE = (_number(0, math.inf), "a number, 0 or more")
_FLAG = (lambda value: type(value) is bool, "true or false")

# config.json's field -> (whether a value is possible, which ones are).
_POSSIBLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"), _WHOLE),
    **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), _RATE),
    **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), _SIZE),
    **dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx"), _FLAG),
    "activation_function": (lambda value: isinstance(value, str), "a name"),
}


@dataclass(frozen=True)
class GPT2Config:
    """The fields of config.json that change the numbers, under their own names."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False

    @property
    def inner(self) -> int:
        """Width of the MLP."""
        return self.n_inner or 4 * self.n_embd

    def scale(self, layer: int) -> float:
        """What layer `layer` multiplies its attention scores by."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: str = "config.json") -> "GPT2Config":
        """From config.json's fields; unknown ones are left out, impossible ones are a `UserError`."""
        if (kind := fields.get("model_type", "gpt2")) != "gpt2":
            raise UserError(f"{where}: model_type is {kind}; only gpt2 is supported")
        known = {name: fields[name] for name in cls.__dataclass_fields__ if fields.get(name) is not None}
        for name, value in known.items():
            possible, words = _POSSIBLE[name]
            if not possible(value):
                raise UserError(f"{where}: {name} {value!r} must be {words}")
        config = cls(**known)
        if config.n_embd % config.n_head:
            raise UserError(f"{where}: n_embd {config.n_embd} must be a multiple of n_head {config.n_head}")
        if config.activation_function not in ACTIVATIONS:
            hint = nearest(config.activation_function, ACTIVATIONS)
            raise UserError(f"{where}: activation_function {config.activation_function} is not supported.{hint}")
        return config


class Linear(nnx.Module):
    """x @ kernel + bias, with the kernel [in, out] as in GPT-2's Conv1D; products accumulate in float32."""

    def __init__(self, key: Array, n_in: int, n_out: int, std: float, bias: bool = True) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(key, (n_in, n_out)))
        self.bias = nnx.data(nnx.Param(jnp.zeros(n_out)) if bias else None)

    def __call__(self, x: Array, dtype: Any = jnp.float32) -> Array:
        """x [tokens, in] -> [tokens, out] float32, the product's operands in `dtype`."""
        y = jnp.matmul(x.astype(dtype), self.kernel[...].astype(dtype), preferred_element_type=jnp.float32)
        return y if self.bias is None else y + self.bias[...]


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


class Attention(nnx.Module):
    """Causal self-attention; `c_attn` gives queries, keys and values side by side."""

    def __init__(self, config: GPT2Config, key: Array, layer: int) -> None:
        c_attn, c_proj = jax.random.split(key)
        width, std = config.n_embd, config.initializer_range
        self.c_attn = Linear(c_attn, width, 3 * width, std)
        # GPT-2 scales the layers that write to the residual stream by their number, 1 / sqrt(2 L).
        self.c_proj = Linear(c_proj, width, width, std / (2 * config.n_layer) ** 0.5)
        self.heads, self.scale, self.depth = config.n_head, config.scale(layer), layer + 1

    def __call__(self, x: Array, layout: Layout, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] -> [tokens, embd] float32."""
        qkv = self.c_attn(x, dtype).astype(dtype)
        q, k, v = (a.reshape(len(x), self.heads, -1) for a in jnp.split(qkv, 3, axis=-1))
        out = attend(q, k, v, layout, self.scale, noise, self.depth)
        return self.c_proj(out.reshape(len(x), -1), dtype)


class MLP(nnx.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: GPT2Config, key: Array) -> None:
        c_fc, c_proj = jax.random.split(key)
        std = config.initializer_range
        self.c_fc = Linear(c_fc, config.n_embd, config.inner, std)
        self.c_proj = Linear(c_proj, config.inner, config.n_embd, std / (2 * config.n_layer) ** 0.5)
        self.activation = config.activation_function

    def __call__(self, x: Array, dtype: Any) -> Array:
        """x [tokens, embd] -> [tokens, embd] float32."""
        return self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x, dtype)), dtype)


class Block(nnx.Module):
    """A transformer layer with pre-normalisation and a float32 residual stream."""

    def __init__(self, config: GPT2Config, key: Array, layer: int) -> None:
        attn, mlp = jax.random.split(key)
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, attn, layer)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config, mlp)
        self.depth = layer + 1

    def __call__(self, x: Array, layout: Layout, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] float32 -> the same."""
        x = x + self._drop(self.attn(self.ln_1(x), layout, noise, dtype), 2, layout, noise)
        return x + self._drop(self.mlp(self.ln_2(x), dtype), 3, layout, noise)

    def _drop(self, x: Array, site: int, layout: Layout, noise: Noise | None) -> Array:
        return x if noise is None else noise(x, self.depth, site, layout.text, layout.position)


class GPT2(nnx.Module):
    """The body: embeddings, layers, final layer norm. No language-model head of its own (it is `wte`, tied)."""

    def __init__(self, config: GPT2Config, key: Array) -> None:
        wte, wpe, *layers = jax.random.split(key, 2 + config.n_layer)
        self.wte = Embed(wte, config.vocab_size, config.n_embd, config.initializer_range)
        self.wpe = Embed(wpe, config.n_positions, config.n_embd, config.initializer_range)
        self.h = nnx.List([Block(config, layer_key, i) for i, layer_key in enumerate(layers)])
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.config = config

    def __call__(self, x: Array, layout: Layout, noise: Noise | None = None, dtype: Any = jnp.float32) -> Array:
        """Token vectors -> hidden states after the final layer norm.

        Args:
            x: [prefix + tokens, embd] soft prompt and token embeddings, without positions.
            layout: of the batch.
            noise: dropout's source in training; None in evaluation.
            dtype: of the operands of matrix products; sums, norms and the residual stream are float32.

        Returns:
            [prefix + tokens, embd] float32.
        """
        x = x + self.wpe(layout.position)
        if noise is not None:
            x = noise(x, 0, 0, layout.text, layout.position)
        for block in self.h:
            x = block(x, layout, noise, dtype)
        return self.ln_f(x)
