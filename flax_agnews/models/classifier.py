"""A text classifier on GPT-2: soft prompt (if any), body, last-real-token pooling, bias-free head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from flax_agnews.data.batches import Batch
from flax_agnews.models.attention import Layout
from flax_agnews.models.dropout import Noise
from flax_agnews.models.gpt2 import GPT2, GPT2Config, Linear


class Prompt(nnx.Module):
    """Soft prompt vectors before every text (Lester et al. 2021, https://arxiv.org/abs/2104.08691).

    Args:
        embedding: [tokens, embd] first values.
    """

    def __init__(self, embedding: Array) -> None:
        self.embedding = nnx.Param(embedding)


class Classifier(nnx.Module):
    """GPT-2 with a classification head, as transformers' GPT2ForSequenceClassification: `score` has no bias.

    Args:
        config: of the body.
        classes: how many.
        key: for random weights.
    """

    def __init__(self, config: GPT2Config, classes: int, key: Array) -> None:
        body, head = jax.random.split(key)
        self.transformer = GPT2(config, body)
        self.score = Linear(head, config.n_embd, classes, config.initializer_range, bias=False)
        self.prompt: Prompt | None = nnx.data(None)

    @property
    def config(self) -> GPT2Config:
        """The body's configuration."""
        return self.transformer.config

    @property
    def prompt_tokens(self) -> int:
        """Positions that a soft prompt takes before every text."""
        return 0 if self.prompt is None else self.prompt.embedding.shape[0]

    def hidden(self, batch: Batch, noise: Noise | None = None, dtype: Any = jnp.float32) -> Array:
        """Hidden states of the texts' tokens: [tokens, embd] float32. A soft prompt is computed once for all texts."""
        x = self.transformer.wte(batch.ids)
        if self.prompt is not None:
            x = jnp.concatenate([self.prompt.embedding[...], x])
        layout = Layout.of(batch, self.prompt_tokens)
        return self.transformer(x, layout, noise, dtype)[self.prompt_tokens :]

    def __call__(self, batch: Batch, noise: Noise | None = None, dtype: Any = jnp.float32) -> Array:
        """Class scores of each text, from the hidden state of its last token: [slots, classes] float32."""
        return self.score(self.hidden(batch, noise, dtype)[batch.last])
