"""GPT-2's body (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") on a flat token axis.

Names are GPT-2's own, as in the hub's checkpoints: wte, wpe, h/{i}/{ln_1, attn, ln_2, mlp}, ln_f.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Key

from flax_agnews.models.attention import attend, attend_last, attend_prompt
from flax_agnews.models.compute import Compute
from flax_agnews.models.dropout import Noise, Place, prompt_place
from flax_agnews.models.forward_pass import BatchPass, BodyPass, ForwardPass, KeysValues
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.models.layers import PRODUCT, Embed, LayerNorm, Linear
from flax_agnews.models.rows import attend_rows
from flax_agnews.models.shared_function import called

# Names in config.json -> the functions that transformers.activations.ACT2FN has for them.
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


def activate(name: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """An activation by its name in config.json, computed in float32; reads and writes x's type."""
    with jax.named_scope("activation"):
        return ACTIVATIONS[name](x.astype(jnp.float32)).astype(x.dtype)


class Attention(nnx.Module):
    """Causal self-attention; the outputs of `c_attn` are queries, keys and values, side by side."""

    def __init__(self, config: GPT2Config, key: Key[Array, ""], layer: int) -> None:
        c_attn, c_proj = jax.random.split(key)
        width, std = config.n_embd, config.initializer_range
        self.c_attn = Linear.random(c_attn, width, 3 * width, std)
        # GPT-2 scales the initial weights of the 2 L layers that write to the residual stream by 1 / sqrt(2 L).
        self.c_proj = Linear.random(c_proj, width, width, std / (2 * config.n_layer) ** 0.5)
        self.heads, self.scale = config.n_head, config.scale(layer)

    def __call__(self, x: Float[Array, "tokens width"], forward: BatchPass) -> Float[Array, "tokens width"]:
        """Attention output of every token."""
        layout = forward.layout
        qkv = self.c_attn(x, forward).reshape(len(x), 3, self.heads, -1)
        with jax.named_scope("attention"):
            if layout.rows is not None and forward.compute.attention != "blocks" and not forward.drops_weights:
                out = attend_rows(qkv, layout.rows, forward, self.scale)
            else:
                q, k, v = jnp.transpose(qkv.reshape(-1, layout.block, *qkv.shape[1:]), (2, 0, 3, 1, 4))
                out = jnp.swapaxes(attend(q, k, v, forward, self.scale), 1, 2)
        return self.c_proj(out.reshape(x.shape), forward)

    def last(self, x: Float[Array, "tokens width"], forward: BatchPass) -> Float[Array, "texts width"]:
        """Attention output of each text's pooled token only."""
        width, last = x.shape[1], forward.layout.last
        pooled = forward.tokens(last)
        q = self._heads(self.c_attn(x[last], pooled, slice(width)), forward)
        k, v = jnp.split(self.c_attn(x, forward, slice(width, None)), 2, axis=-1)
        k, v = self._heads(k, forward), self._heads(v, forward)
        with jax.named_scope("attention"):
            out = attend_last(q, k, v, forward, self.scale)
        return self.c_proj(out.reshape(len(out), -1), pooled)

    def prompt(
        self, x: Float[Array, "prefix width"], forward: ForwardPass
    ) -> tuple[KeysValues, Float[Array, "prefix width"]]:
        """The keys and values of a soft prompt's tokens, and their attention output."""
        qkv = self.c_attn(x, forward)
        q, k, v = (self._heads(a, forward) for a in jnp.split(qkv, 3, axis=-1))
        out = attend_prompt(q, k, v, forward, self.scale)
        return (k, v), self.c_proj(out.reshape(x.shape), forward)

    def _heads(self, x: Float[Array, "tokens width"], forward: ForwardPass) -> Float[Array, "tokens heads head_width"]:
        return x.astype(forward.compute.dtype).reshape(len(x), self.heads, -1)


class MLP(nnx.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: GPT2Config, key: Key[Array, ""]) -> None:
        c_fc, c_proj = jax.random.split(key)
        std = config.initializer_range
        self.c_fc = Linear.random(c_fc, config.n_embd, config.inner, std)
        self.c_proj = Linear.random(c_proj, config.inner, config.n_embd, std / (2 * config.n_layer) ** 0.5)
        self.activation = config.activation_function

    def __call__(self, x: Float[Array, "tokens width"], forward: ForwardPass) -> Float[Array, "tokens width"]:
        """The layers' outputs for every token."""
        # The backward pass computes the activation again: that is quicker than to read the five arrays of this size
        # from which autodiff would take its gradient, or the float32 tanh that XLA would keep on a GPU. The bias too,
        # so that the product's result is kept as it is written, and the sum isn't written at all.
        keep = jax.checkpoint_policies.save_only_these_names(PRODUCT)
        inner = jax.checkpoint(lambda x: activate(self.activation, self.c_fc(x, forward)), policy=keep)
        return self.c_proj(inner(x), forward)


class Block(nnx.Module):
    """A transformer layer with pre-normalisation and a float32 residual stream."""

    def __init__(self, config: GPT2Config, key: Key[Array, ""], layer: int) -> None:
        attn, mlp = jax.random.split(key)
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, attn, layer)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config, mlp)

    def __call__(self, x: Float32[Array, "tokens width"], forward: BatchPass) -> Float32[Array, "tokens width"]:
        """The residual stream after the layer."""
        return self._add(x, self.attn(self.ln_1(x, forward.compute.results), forward), forward)

    def last(self, x: Float32[Array, "tokens width"], forward: BatchPass) -> Float32[Array, "texts width"]:
        """As `__call__`, for each text's pooled token only: one query and one row of the MLP per text."""
        attended, last = self.attn.last(self.ln_1(x, forward.compute.results), forward), forward.layout.last
        return self._add(x[last], attended, forward.tokens(last))

    def prompt(
        self, x: Float32[Array, "prefix width"], forward: ForwardPass
    ) -> tuple[KeysValues, Float32[Array, "prefix width"]]:
        """The keys and values of a soft prompt's tokens, and their residual stream after the layer."""
        seen, attended = self.attn.prompt(self.ln_1(x, forward.compute.results), forward)
        return seen, self._add(x, attended, forward)

    def _add(
        self, x: Float32[Array, "tokens width"], attended: Float[Array, "tokens width"], forward: ForwardPass
    ) -> Float32[Array, "tokens width"]:
        """Adds the attention output and then the MLP's to the residual stream, both with dropout."""
        x = x + forward.drop(attended, 2)
        return x + forward.drop(self.mlp(self.ln_2(x, forward.compute.results), forward), 3)


class GPT2(nnx.Module):
    """The body: embeddings, layers and final layer norm. The language-model head is `wte`, tied."""

    def __init__(self, config: GPT2Config, key: Key[Array, ""]) -> None:
        wte, wpe, *layers = jax.random.split(key, 2 + config.n_layer)
        self.wte = Embed(wte, config.vocab_size, config.n_embd, config.initializer_range)
        self.wpe = Embed(wpe, config.n_positions, config.n_embd, config.initializer_range)
        self.h = nnx.List([Block(config, layer_key, i) for i, layer_key in enumerate(layers)])
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.config = config

    def embed(
        self, vectors: Float32[Array, "tokens width"], place: Place, noise: Noise | None
    ) -> Float32[Array, "tokens width"]:
        """Input of the first layer: token vectors plus position vectors, with dropout."""
        with jax.named_scope("embed"):
            x = vectors + self.wpe(place.position)
        return x if noise is None else noise.layer(0).drop(x, 0, place)

    def prompt(self, vectors: Float[Array, "prefix width"], noise: Noise | None, compute: Compute) -> list[KeysValues]:
        """Keys and values of a soft prompt by layer, computed once for all texts.

        Args:
            vectors: embeddings of the prompt's tokens, before position embeddings.
            noise: source of dropout in training; None in evaluation.
            compute: types of matrix products and their results.
        """
        x, seen = self.embed(vectors, prompt_place(len(vectors)), noise), []
        for depth, block in enumerate(self.h, start=1):
            own = None if noise is None else noise.layer(depth)
            forward = ForwardPass.of_prompt(len(vectors), own, compute)
            keys_values, x = called(block, x, forward, method="prompt")
            seen.append(keys_values)
        return seen

    def __call__(
        self, x: Float32[Array, "tokens width"], forward: BodyPass, *, first: int = 0, pooled: bool = False
    ) -> Float32[Array, "tokens_or_texts width"]:
        """Hidden states after the final layer norm, of every token or of each text's pooled token.

        Args:
            x: input of layer `first`.
            forward: context of the pass.
            first: first layer to compute, from 0.
            pooled: whether to return only each text's last token.
        """
        x = self.layers(x, forward, first=first, end=len(self.h) - pooled)
        if pooled and first < len(self.h):
            x = self.h[-1].last(x, forward.layer(len(self.h) - 1))
        elif pooled:
            x = x[forward.layout.last]
        return self.ln_f(x)

    def layers(
        self, x: Float32[Array, "tokens width"], forward: BodyPass, *, first: int = 0, end: int
    ) -> Float32[Array, "tokens width"]:
        """The residual stream after layers `first` to `end` - 1."""
        for i in range(first, end):
            x = called(self.h[i], x, forward.layer(i))
        return x
