"""(IA)^3: learned scales of activations, and the head (Liu et al. 2022, https://arxiv.org/abs/2205.05638).

The scales are where PEFT has them on GPT-2: on the output of attention's c_attn (queries too; the paper scales only
keys and values) and on the input of the MLP's c_proj.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Key

from flax_agnews.errors import UserError
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.forward_pass import EXACT, ForwardPass
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.layers import Linear
from flax_agnews.models.linear_replacement import replaced
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


class Scaled(Linear):
    """A linear layer whose outputs (or inputs) are multiplied by learned scales, one per unit.

    Args:
        plain: the linear layer.
        scales: initial scales, one per output, or one per input if `feedforward`.
        feedforward: whether the input is scaled, as in PEFT's feedforward modules.
    """

    def __init__(self, plain: Linear, scales: Float32[Array, " units"], feedforward: bool) -> None:
        super().__init__(plain.kernel, plain.bias)
        self.ia3_l, self.feedforward = nnx.Param(scales), feedforward

    def __call__(
        self, x: Float[Array, "tokens inputs"], forward: ForwardPass = EXACT, columns: slice = slice(None)
    ) -> Float32[Array, "tokens outputs"]:
        """As `Linear`."""
        scales = self.ia3_l[...]
        if self.feedforward:
            return super().__call__(x * scales, forward, columns)
        return super().__call__(x, forward, columns) * scales[columns]

    def merged(self) -> Linear:
        """The plain linear layer that computes the same, with the scales multiplied into its weights."""
        return self._times(self, self.ia3_l[...])

    def unmerged(self, plain: Linear) -> "Scaled":
        """Undoes `merged`: divides the weights of `plain` by this layer's scales, and gives the layer with both."""
        scales = self.ia3_l[...]
        if not scales.all():
            raise UserError("a scale of (IA)^3 is zero: what was merged can't be taken apart again")
        return Scaled(self._times(plain, 1 / scales), scales, self.feedforward)

    def _times(self, linear: Linear, scales: Float32[Array, " units"]) -> Linear:
        """A linear layer's weights multiplied by scales."""
        if self.feedforward:
            return Linear(nnx.Param(linear.kernel[...] * scales[:, None]), linear.bias)
        bias = None if linear.bias is None else nnx.Param(linear.bias[...] * scales)
        return Linear(nnx.Param(linear.kernel[...] * scales), bias)


def build(settings: IA3Settings, config: GPT2Config) -> Strategy:
    """Adds scales that start at 1; they and the head train, all of GPT-2 is frozen."""

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
