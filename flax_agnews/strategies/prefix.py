"""Prefix tuning: keys and values before every text in each layer, and the head, train.

Li & Liang 2021, https://arxiv.org/abs/2101.00190; P-tuning v2: Liu et al. 2022, https://arxiv.org/abs/2110.07602.

The keys and values are parameters, as in P-tuning v2; Li & Liang compute them by an MLP. As in PEFT with transformers
5, they have no position embeddings, but a text's positions count from the prefix's length: prefix and text together
must fit the model's positions.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32, Key

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.dropout import Noise
from flax_agnews.models.forward_pass import KeysValues
from flax_agnews.models.gpt2 import GPT2, GPT2Config
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.strategies.peft import PADDED_RIGHT, Peft, tokens_setting, virtual_tokens
from flax_agnews.strategies.prompt import INITIALIZERS, before_texts


@dataclass
class PrefixSettings:
    """Prefix tuning: keys and values before every text in each layer, and the head, train.

    Args:
        learning_rate: Learning rate of the prefix and the head; the upper end of P-tuning v2's (5e-3 to 1e-2 in its
            scripts). At this rate the strategy was better than training the head alone, at five times this rate it was
            not (`benchmarks/results/family.md`).
        tokens: Length of the prefix: number of keys and values before every text, in each layer.
        initializer: Initial keys and values: `vocabulary`, those that GPT-2 computes for vocabulary entries drawn
            without replacement (Li & Liang, section 7.4: real words), or `unit_normal`, N(0, 1) (PEFT, P-tuning v2).
    """

    learning_rate: float = 1e-2
    tokens: int = 20
    initializer: Literal["vocabulary", "unit_normal"] = "vocabulary"


class Prefix(nnx.Module):
    """Trained keys and values that precede every text in each layer.

    Args:
        keys_values: initial values; on the axis of two, index 0 has the keys and 1 the values.
    """

    def __init__(self, keys_values: Float32[Array, "tokens layers 2 width"]) -> None:
        self.keys_values = nnx.Param(keys_values)

    @property
    def tokens(self) -> int:
        """Number of keys and values before every text."""
        return self.keys_values.shape[0]

    def seen(self, body: GPT2, noise: Noise | None, dtype: Any) -> list[KeysValues]:
        """The prefix's keys and values, by layer."""
        values = self.keys_values[...].astype(dtype)
        values = values.reshape(*values.shape[:3], body.config.n_head, -1)
        return [(values[:, layer, 0], values[:, layer, 1]) for layer in range(values.shape[1])]


def _of_words(
    model: ClassifierModule, key: Key[Array, ""], tokens: int
) -> Float32[Array, "tokens layers 2 heads head_width"]:
    """Keys and values that the body computes for random vocabulary entries as a prompt."""
    seen = model.transformer.prompt(INITIALIZERS["vocabulary"](model, key, tokens), None, jnp.float32)
    return jnp.stack([jnp.stack(keys_values, axis=1) for keys_values in seen], axis=1)


def build(settings: PrefixSettings, config: GPT2Config) -> Strategy:
    """Adds a prefix; it and the head train, GPT-2 is frozen."""

    def prefix(model: ClassifierModule, key: Key[Array, ""]) -> Prefix:
        shape = settings.tokens, config.n_layer, 2, config.n_embd
        words = settings.initializer == "vocabulary"
        first = _of_words(model, key, settings.tokens) if words else jax.random.normal(key, shape)
        return Prefix(first.reshape(shape))

    return before_texts("prefix", settings, config, prefix, _peft(settings, config))


_PADDED = (
    f"{PADDED_RIGHT} PEFT 0.21 refuses prefix tuning (`Model does not support past key values`) with versions of "
    "transformers whose GPT-2 calls them `cache`, such as 5.24; there, `model.base_model(input_ids=ids, "
    "cache=model.get_prompt(len(ids)))` gives the logits (ones for virtual tokens come first in an `attention_mask`)."
)


def _tensor(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """(key, array) in PEFT: a row per prefix token, with the keys and values of all layers; the head transposed."""
    if path == "prompt/keys_values":
        return "prompt_embeddings", value.reshape(len(value), -1)
    return "base_model.score.weight", value.T


def _peft(settings: PrefixSettings, config: GPT2Config) -> Peft:
    """Prefix tuning as a PEFT adapter."""
    fields = virtual_tokens("PREFIX_TUNING", settings.tokens, config)
    return Peft({**fields, "prefix_projection": False}, _tensor, tokens_setting, padded=_PADDED)


PREFIX = Entry(
    "prefix", PrefixSettings, build, "keys and values before texts, and head", "https://arxiv.org/abs/2101.00190"
)
