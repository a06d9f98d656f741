"""Prefix tuning: keys and values before every text in each layer, and the head, train.

Li & Liang 2021, https://arxiv.org/abs/2101.00190; P-tuning v2: Liu et al. 2022, https://arxiv.org/abs/2110.07602.

The keys and values are parameters, as in P-tuning v2; Li & Liang compute them by an MLP. As in PEFT with transformers
5, they have no position embeddings, but a text's positions count from the prefix's length: prefix and text together
must fit the model's positions.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.strategies.peft import PADDED_RIGHT, Peft, tokens_setting, virtual_tokens
from flax_agnews.strategies.prompt import before_texts


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


def build(settings: PrefixSettings, config: GPT2Config) -> Strategy:
    """Adds a prefix; it and the head train, GPT-2 is frozen."""
    import jax  # this and what follows is imported here so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.prompts import Prefix, keys_values_of_words

    def prefix(model: ClassifierModule, key: Key[Array, ""]) -> Prefix:
        shape = settings.tokens, config.n_layer, 2, config.n_embd
        words = settings.initializer == "vocabulary"
        first = keys_values_of_words(model, key, settings.tokens) if words else jax.random.normal(key, shape)
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
