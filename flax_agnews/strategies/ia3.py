"""(IA)^3: learned scales of activations, and the head (Liu et al. 2022, https://arxiv.org/abs/2205.05638).

The scales are where PEFT has them on GPT-2: on the output of attention's c_attn (queries too; the paper scales only
keys and values) and on the input of the MLP's c_proj.
"""

from dataclasses import dataclass

import numpy as np

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head
from flax_agnews.strategies.peft import PADDED_RIGHT, Peft


@dataclass
class IA3Settings:
    """(IA)^3: scales of activations and the head train.

    Args:
        learning_rate: Learning rate of the scales and the head; 3e-3 is the paper's (section 3.3).
    """

    learning_rate: float = 3e-3


TARGETS, FEEDFORWARD = ("attn.c_attn", "mlp.c_proj"), ("mlp.c_proj",)
"""PEFT's default target modules for GPT-2, and those among them whose input, not output, is scaled."""


def build(settings: IA3Settings, config: GPT2Config) -> Strategy:
    """Adds scales that start at 1; they and the head train, all of GPT-2 is frozen."""
    import jax.numpy as jnp  # this and what follows is imported here so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.layers import Linear
    from flax_agnews.models.linear_replacement import replaced
    from flax_agnews.models.scaled import Scaled

    def change(layer: int, name: str, plain: Linear) -> Linear:
        if name not in TARGETS:
            return plain
        feedforward = name in FEEDFORWARD
        return Scaled(plain, jnp.ones(plain.kernel.shape[0 if feedforward else 1]), feedforward)

    def adapt(model: ClassifierModule, key: Key[Array, ""]) -> ClassifierModule:
        return replaced(model, change)

    return at_one_rate("ia3", settings, lambda path: path.endswith("/ia3_l") or in_head(path), adapt=adapt, peft=PEFT)


def _tensor(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """(key, array) in PEFT: scales as a column, or as a row if they scale the input; the head transposed."""
    *parts, leaf = path.split("/")
    key = ".".join(["base_model.model", *parts])
    if leaf != "ia3_l":
        return f"{key}.weight", value.T
    return f"{key}.ia3_l", value.reshape((1, -1) if ".".join(parts[-2:]) in FEEDFORWARD else (-1, 1))


PEFT = Peft(
    fields={
        "peft_type": "IA3",
        "target_modules": list(TARGETS),
        "feedforward_modules": list(FEEDFORWARD),
        "fan_in_fan_out": True,
    },
    tensor=_tensor,
    settings=lambda fields, keys: {},
    padded=PADDED_RIGHT,
)


IA3 = Entry("ia3", IA3Settings, build, "scales of activations, and head", "https://arxiv.org/abs/2205.05638")
