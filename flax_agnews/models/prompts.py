"""What comes before every text: initial values of soft prompts, and prefixes of keys and values.

Lester et al. 2021, https://arxiv.org/abs/2104.08691; Li & Liang 2021, https://arxiv.org/abs/2101.00190.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32, Key

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import FLOAT32, Compute
from flax_agnews.models.dropout import Noise
from flax_agnews.models.forward_pass import KeysValues
from flax_agnews.models.gpt2 import GPT2

Initializer = Callable[[ClassifierModule, Key[Array, ""], int], Float32[Array, "tokens width"]]
"""(model, random key, number of tokens) -> initial values of a soft prompt."""


def _from_vocabulary(model: ClassifierModule, key: Key[Array, ""], tokens: int) -> Float32[Array, "tokens width"]:
    table = model.transformer.wte.embedding[...]
    return table[jax.random.choice(key, table.shape[0], (tokens,), replace=False)]


INITIALIZERS: Mapping[str, Initializer] = {
    "vocabulary": _from_vocabulary,
    "normal": lambda m, key, n: m.config.initializer_range * jax.random.normal(key, (n, m.config.n_embd)),
    "uniform": lambda m, key, n: jax.random.uniform(key, (n, m.config.n_embd), minval=-0.5, maxval=0.5),
    "unit_normal": lambda m, key, n: jax.random.normal(key, (n, m.config.n_embd)),
}


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

    def seen(self, body: GPT2, noise: Noise | None, compute: Compute) -> list[KeysValues]:
        """The prefix's keys and values, by layer."""
        values = self.keys_values[...].astype(compute.dtype)
        values = values.reshape(*values.shape[:3], body.config.n_head, -1)
        return [(values[:, layer, 0], values[:, layer, 1]) for layer in range(values.shape[1])]


def keys_values_of_words(
    model: ClassifierModule, key: Key[Array, ""], tokens: int
) -> Float32[Array, "tokens layers 2 heads head_width"]:
    """Keys and values that the body computes for random vocabulary entries as a prompt."""
    seen = model.transformer.prompt(INITIALIZERS["vocabulary"](model, key, tokens), None, FLOAT32)
    return jnp.stack([jnp.stack(keys_values, axis=1) for keys_values in seen], axis=1)
