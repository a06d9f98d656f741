"""A text classifier on GPT-2: soft prompt (if any), body, pooling of each text's last token, head without bias."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32, Key

from flax_agnews.data.batches import Batch
from flax_agnews.models.compute import FLOAT32, Compute
from flax_agnews.models.dropout import Noise
from flax_agnews.models.forward_pass import BodyPass, ForwardPass, KeysValues
from flax_agnews.models.gpt2 import GPT2, GPT2Config
from flax_agnews.models.layers import Linear
from flax_agnews.models.token_layout import Layout


class Before(Protocol):
    """Interface of the classifier's submodule `prompt`: a soft prompt or a prefix before every text."""

    @property
    def tokens(self) -> int:
        """Number of positions that it takes before every text."""

    def seen(self, body: GPT2, noise: Noise | None, compute: Compute) -> list[KeysValues]:
        """Its keys and values in each layer, to which the tokens of every text attend."""


class Prompt(nnx.Module):
    """Soft prompt vectors before every text (Lester et al. 2021, https://arxiv.org/abs/2104.08691).

    Args:
        embedding: initial values of the vectors.
    """

    def __init__(self, embedding: Float32[Array, "tokens width"]) -> None:
        self.embedding = nnx.Param(embedding)

    @property
    def tokens(self) -> int:
        """Number of vectors."""
        return self.embedding.shape[0]

    def seen(self, body: GPT2, noise: Noise | None, compute: Compute) -> list[KeysValues]:
        """The keys and values that the body computes from the vectors, by layer."""
        return body.prompt(self.embedding[...], noise, compute)


class ClassifierModule(nnx.Module):
    """GPT-2 with a classification head, as transformers' GPT2ForSequenceClassification: `score` has no bias.

    Args:
        config: configuration of the body.
        classes: number of classes.
        key: random key of the initial weights.
    """

    def __init__(self, config: GPT2Config, classes: int, key: Key[Array, ""]) -> None:
        body, head = jax.random.split(key)
        self.transformer = GPT2(config, body)
        self.score = Linear.random(head, config.n_embd, classes, config.initializer_range, bias=False)
        self.prompt: Before | None = nnx.data(None)

    @property
    def config(self) -> GPT2Config:
        """The body's configuration."""
        return self.transformer.config

    @property
    def prompt_tokens(self) -> int:
        """Number of positions that the prompt takes before every text."""
        return 0 if self.prompt is None else self.prompt.tokens

    def prefix(self, noise: Noise | None = None, compute: Compute = FLOAT32) -> list[KeysValues] | None:
        """Keys and values of the prompt by layer, computed once for all texts; None without a prompt."""
        return None if self.prompt is None else self.prompt.seen(self.transformer, noise, compute)

    def hidden(
        self,
        batch: Batch,
        noise: Noise | None = None,
        compute: Compute = FLOAT32,
        *,
        prefix: list[KeysValues] | None = None,
        pooled: bool = False,
    ) -> Float32[Array, "tokens_or_texts width"]:
        """Hidden states of every token, or only of each text's last token.

        Args:
            batch: token ids, or the input of layer `batch.depth`.
            noise: source of dropout in training; None in evaluation.
            compute: types of matrix products, and implementation of attention.
            prefix: result of `self.prefix`, if it has been computed already.
            pooled: whether to return only each text's last token; the last layer is then computed for it alone.
        """
        body, layout = self.transformer, Layout.of(batch, self.prompt_tokens, compute)
        x = batch.ids.astype(jnp.float32) if batch.depth else body.embed(body.wte(batch.ids), layout.place, noise)
        seen = self.prefix(noise, compute) if prefix is None else prefix
        return body(x, BodyPass(layout, noise, compute, seen), first=batch.depth, pooled=pooled)

    def __call__(
        self,
        batch: Batch,
        noise: Noise | None = None,
        compute: Compute = FLOAT32,
        prefix: list[KeysValues] | None = None,
    ) -> Float32[Array, "texts classes"]:
        """Logits of each text, from the hidden state of its last token; arguments as in `hidden`."""
        hidden = self.hidden(batch, noise, compute, prefix=prefix, pooled=True)
        with jax.named_scope("head"):
            return self.score(hidden, ForwardPass(compute=compute.exact))
