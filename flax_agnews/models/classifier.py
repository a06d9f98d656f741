"""A text classifier on GPT-2: soft prompt (if any), body, last-real-token pooling, bias-free head."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from flax_agnews.data.batches import Batch
from flax_agnews.models.attention import KeysValues, Layout
from flax_agnews.models.dropout import Noise
from flax_agnews.models.gpt2 import GPT2, GPT2Config
from flax_agnews.models.layers import Linear
from flax_agnews.models.rows import Way


class Before(Protocol):
    """What stands before every text: a module of the classifier's, called `prompt`."""

    @property
    def tokens(self) -> int:
        """Positions that it takes before every text."""

    def seen(self, body: GPT2, noise: Noise | None, dtype: Any) -> list[KeysValues]:
        """The keys and values of each layer that every text sees."""


class Prompt(nnx.Module):
    """Soft prompt vectors before every text (Lester et al. 2021, https://arxiv.org/abs/2104.08691).

    Args:
        embedding: [tokens, embd] first values.
    """

    def __init__(self, embedding: Array) -> None:
        self.embedding = nnx.Param(embedding)

    @property
    def tokens(self) -> int:
        """How many vectors."""
        return self.embedding.shape[0]

    def seen(self, body: GPT2, noise: Noise | None, dtype: Any) -> list[KeysValues]:
        """The keys and values of each layer that every text sees: what the body makes of the vectors."""
        return body.prompt(self.embedding[...], noise, dtype)


class Classifier(nnx.Module):
    """GPT-2 with a classification head, as transformers' GPT2ForSequenceClassification: `score` has no bias.

    Args:
        config: of the body.
        classes: how many.
        key: for random weights.
        attention: how tokens attend.
    """

    def __init__(self, config: GPT2Config, classes: int, key: Array, attention: Way = "blocks") -> None:
        body, head = jax.random.split(key)
        self.transformer = GPT2(config, body)
        self.score = Linear.random(head, config.n_embd, classes, config.initializer_range, bias=False)
        self.prompt: Before | None = nnx.data(None)
        self.attention = attention

    @property
    def config(self) -> GPT2Config:
        """The body's configuration."""
        return self.transformer.config

    @property
    def prompt_tokens(self) -> int:
        """Positions that are taken before every text."""
        return 0 if self.prompt is None else self.prompt.tokens

    def prefix(self, noise: Noise | None = None, dtype: Any = jnp.float32) -> list[KeysValues] | None:
        """What every text sees first, in each layer: computed once, whatever the number of texts."""
        return None if self.prompt is None else self.prompt.seen(self.transformer, noise, dtype)

    def hidden(
        self,
        batch: Batch,
        noise: Noise | None = None,
        dtype: Any = jnp.float32,
        *,
        prefix: list[KeysValues] | None = None,
        pooled: bool = False,
    ) -> Array:
        """Hidden states: [tokens, embd] float32 of every token, or [slots, embd] of each text's last one.

        Args:
            batch: token ids, or what enters layer `batch.depth`.
            noise: dropout's source in training.
            dtype: of matrix products.
            prefix: where it is computed already.
            pooled: the last layer, too, is then computed for the pooled tokens only.
        """
        body, layout = self.transformer, Layout.of(batch, self.prompt_tokens, self.attention)
        x = batch.ids.astype(jnp.float32) if batch.depth else body.embed(body.wte(batch.ids), layout.place, noise)
        seen = self.prefix(noise, dtype) if prefix is None else prefix
        return body(x, layout, noise, dtype, prefix=seen, first=batch.depth, pooled=pooled)

    def __call__(
        self,
        batch: Batch,
        noise: Noise | None = None,
        dtype: Any = jnp.float32,
        prefix: list[KeysValues] | None = None,
    ) -> Array:
        """Class scores of each text, from the hidden state of its last token: [slots, classes] float32."""
        return self.score(self.hidden(batch, noise, dtype, prefix=prefix, pooled=True))
