"""GPT-2's body (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") on a flat token axis.

Names are GPT-2's own, as in the hub's checkpoints: wte, wpe, h/{i}/{ln_1, attn, ln_2, mlp}, ln_f.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from flax_agnews.errors import UserError, nearest, shown
from flax_agnews.models.attention import KeysValues, Layout, attend, attend_last, attend_prompt, prompt_place
from flax_agnews.models.dropout import Noise, Place
from flax_agnews.models.layers import Embed, LayerNorm, Linear
from flax_agnews.models.rows import attend_rows

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


def _whole(most: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: type(value) is int and 1 <= value <= most), f"a whole number, 1 to {most:,}"


_RATE = (_number(0, 1), "a number, at least 0 and below 1")
_SIZE = (_number(0, math.inf), "a number, 0 or more")
_FLAG = (lambda value: type(value) is bool, "true or false")

# config.json's field -> (whether a value is possible, which ones are).
_POSSIBLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    # Far beyond any GPT-2: what is built by such a number would never end.
    **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_head", "n_inner"), _whole(10_000_000)),
    "n_layer": _whole(1000),
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
            raise UserError(f"{where}: model_type is {shown(kind)}; only gpt2 is supported")
        known = {name: fields[name] for name in cls.__dataclass_fields__ if fields.get(name) is not None}
        for name, value in known.items():
            possible, words = _POSSIBLE[name]
            if not possible(value):
                raise UserError(f"{where}: {name} {shown(repr(value))} must be {words}")
        config = cls(**known)
        if config.n_embd % config.n_head:
            raise UserError(f"{where}: n_embd {config.n_embd} must be a multiple of n_head {config.n_head}")
        if config.activation_function not in ACTIVATIONS:
            hint = nearest(config.activation_function, ACTIVATIONS)
            name = shown(config.activation_function)
            raise UserError(f"{where}: activation_function {name} is not supported.{hint}")
        return config


class Attention(nnx.Module):
    """Causal self-attention; `c_attn` gives queries, keys and values side by side."""

    def __init__(self, config: GPT2Config, key: Array, layer: int) -> None:
        c_attn, c_proj = jax.random.split(key)
        width, std = config.n_embd, config.initializer_range
        self.c_attn = Linear.random(c_attn, width, 3 * width, std)
        # GPT-2 scales the layers that write to the residual stream by their number, 1 / sqrt(2 L).
        self.c_proj = Linear.random(c_proj, width, width, std / (2 * config.n_layer) ** 0.5)
        self.heads, self.scale, self.depth = config.n_head, config.scale(layer), layer + 1

    def __call__(self, x: Array, layout: Layout, prefix: KeysValues | None, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] -> [tokens, embd] float32."""
        qkv = self.c_attn(x, dtype, noise=noise, place=layout.place).reshape(len(x), 3, self.heads, -1)
        if layout.rows is not None:
            out = attend_rows(qkv, layout.rows, prefix, self.scale, noise, self.depth, dtype)
        else:
            q, k, v = jnp.transpose(qkv.reshape(-1, layout.block, *qkv.shape[1:]), (2, 0, 3, 1, 4))
            out = jnp.swapaxes(attend(q, k, v, layout, prefix, self.scale, noise, self.depth, dtype), 1, 2)
        return self.c_proj(out.reshape(x.shape), dtype, noise=noise, place=layout.place)

    def last(self, x: Array, layout: Layout, prefix: KeysValues | None, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] -> [slots, embd] float32, of the pooled tokens."""
        width, pooled = x.shape[1], layout.place[layout.last]
        q = self._heads(self.c_attn(x[layout.last], dtype, slice(width), noise, pooled), dtype)
        k, v = jnp.split(self.c_attn(x, dtype, slice(width, None), noise, layout.place), 2, axis=-1)
        k, v = self._heads(k, dtype), self._heads(v, dtype)
        out = attend_last(q, k, v, layout, prefix, self.scale, noise, self.depth)
        return self.c_proj(out.reshape(len(out), -1), dtype, noise=noise, place=pooled)

    def prompt(self, x: Array, noise: Noise | None, dtype: Any) -> tuple[KeysValues, Array]:
        """A soft prompt x [prefix, embd] -> the keys and values that texts see, and [prefix, embd] float32."""
        place = prompt_place(len(x))
        qkv = self.c_attn(x, dtype, noise=noise, place=place)
        q, k, v = (self._heads(a, dtype) for a in jnp.split(qkv, 3, axis=-1))
        out = attend_prompt(q, k, v, self.scale, noise, self.depth)
        return (k, v), self.c_proj(out.reshape(x.shape), dtype, noise=noise, place=place)

    def _heads(self, x: Array, dtype: Any) -> Array:
        return x.astype(dtype).reshape(len(x), self.heads, -1)


class MLP(nnx.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: GPT2Config, key: Array) -> None:
        c_fc, c_proj = jax.random.split(key)
        std = config.initializer_range
        self.c_fc = Linear.random(c_fc, config.n_embd, config.inner, std)
        self.c_proj = Linear.random(c_proj, config.inner, config.n_embd, std / (2 * config.n_layer) ** 0.5)
        self.activation = config.activation_function

    def __call__(self, x: Array, dtype: Any, noise: Noise | None, place: Place) -> Array:
        """x [tokens, embd] -> [tokens, embd] float32."""
        inner = ACTIVATIONS[self.activation](self.c_fc(x, dtype, noise=noise, place=place))
        return self.c_proj(inner, dtype, noise=noise, place=place)


class Block(nnx.Module):
    """A transformer layer with pre-normalisation and a float32 residual stream."""

    def __init__(self, config: GPT2Config, key: Array, layer: int) -> None:
        attn, mlp = jax.random.split(key)
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, attn, layer)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config, mlp)
        self.depth = layer + 1

    def __call__(self, x: Array, layout: Layout, prefix: KeysValues | None, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] float32 -> the same."""
        return self._add(x, self.attn(self.ln_1(x), layout, prefix, noise, dtype), layout.place, noise, dtype)

    def last(self, x: Array, layout: Layout, prefix: KeysValues | None, noise: Noise | None, dtype: Any) -> Array:
        """x [tokens, embd] float32 -> [slots, embd]: all keys and values, but one query and one MLP row a text."""
        attended = self.attn.last(self.ln_1(x), layout, prefix, noise, dtype)
        return self._add(x[layout.last], attended, layout.place[layout.last], noise, dtype)

    def prompt(self, x: Array, noise: Noise | None, dtype: Any) -> tuple[KeysValues, Array]:
        """A soft prompt x [prefix, embd] float32 -> the keys and values that texts see, and the same for above."""
        seen, attended = self.attn.prompt(self.ln_1(x), noise, dtype)
        return seen, self._add(x, attended, prompt_place(len(x)), noise, dtype)

    def _add(self, x: Array, attended: Array, place: Place, noise: Noise | None, dtype: Any) -> Array:
        def drop(y: Array, site: int) -> Array:
            return y if noise is None else noise(y, self.depth, site, place)

        x = x + drop(attended, 2)
        return x + drop(self.mlp(self.ln_2(x), dtype, noise, place), 3)


class GPT2(nnx.Module):
    """The body: embeddings, layers, final layer norm. No language-model head of its own (it is `wte`, tied)."""

    def __init__(self, config: GPT2Config, key: Array) -> None:
        wte, wpe, *layers = jax.random.split(key, 2 + config.n_layer)
        self.wte = Embed(wte, config.vocab_size, config.n_embd, config.initializer_range)
        self.wpe = Embed(wpe, config.n_positions, config.n_embd, config.initializer_range)
        self.h = nnx.List([Block(config, layer_key, i) for i, layer_key in enumerate(layers)])
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.config = config

    def embed(self, vectors: Array, place: Place, noise: Noise | None) -> Array:
        """Token vectors [tokens, embd] -> what enters the first layer: with positions, after dropout."""
        x = vectors + self.wpe(place.position)
        return x if noise is None else noise(x, 0, 0, place)

    def prompt(self, vectors: Array, noise: Noise | None, dtype: Any) -> list[KeysValues]:
        """A soft prompt [prefix, embd] -> the keys and values of each layer that every text sees. Once for all."""
        x, seen = self.embed(vectors, prompt_place(len(vectors)), noise), []
        for block in self.h:
            keys_values, x = block.prompt(x, noise, dtype)
            seen.append(keys_values)
        return seen

    def __call__(
        self,
        x: Array,
        layout: Layout,
        noise: Noise | None = None,
        dtype: Any = jnp.float32,
        *,
        prefix: Sequence[KeysValues] | None = None,
        first: int = 0,
        pooled: bool = False,
    ) -> Array:
        """Hidden states after the final layer norm.

        Args:
            x: [tokens, embd] what enters layer `first`.
            layout: of the batch.
            noise: dropout's source in training; None in evaluation.
            dtype: of the operands of matrix products; sums, norms and the residual stream are float32.
            prefix: what every text sees first in each layer, if anything.
            first: layers below it have been computed.
            pooled: only of each text's last token.

        Returns:
            [tokens, embd] float32, or [slots, embd] where pooled.
        """
        x = self.layers(x, layout, noise, dtype, prefix=prefix, first=first, end=len(self.h) - pooled)
        if pooled and first < len(self.h):
            x = self.h[-1].last(x, layout, prefix[-1] if prefix else None, noise, dtype)
        elif pooled:
            x = x[layout.last]
        return self.ln_f(x)

    def layers(
        self,
        x: Array,
        layout: Layout,
        noise: Noise | None,
        dtype: Any,
        *,
        prefix: Sequence[KeysValues] | None = None,
        first: int = 0,
        end: int,
    ) -> Array:
        """Layers `first` to `end` (without it): [tokens, embd] float32 -> the same."""
        for i in range(first, end):
            x = self.h[i](x, layout, prefix[i] if prefix else None, noise, dtype)
        return x
