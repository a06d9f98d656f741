"""The configuration of GPT-2's body, as in config.json; needs no JAX, so that a command line is checked without it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flax_agnews.errors import UserError, nearest, shown

ACTIVATION_NAMES = (
    *("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "quick_gelu"),
    *("relu", "silu", "swish", "tanh"),
)
"""The activation functions of the MLP, of which `models.gpt2` has each."""

LINEAR_LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Names of a transformer layer's linear layers, as in PEFT's target modules, in the order in which they compute."""


def _number(least: float, below: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value < below


def _whole(most: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: type(value) is int and 1 <= value <= most), f"a whole number, 1 to {most:,}"


_RATE = (_number(0, 1), "a number, at least 0 and below 1")
_SIZE = (_number(0, math.inf), "a number, 0 or more")
_FLAG = (lambda value: type(value) is bool, "true or false")

# Field of config.json -> (check of a value, description of the allowed values).
_POSSIBLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    # Limits far beyond any GPT-2: a larger number would only exhaust memory or time.
    **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_head", "n_inner"), _whole(10_000_000)),
    "n_layer": _whole(1000),
    **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), _RATE),
    **dict.fromkeys(("layer_norm_epsilon", "initializer_range"), _SIZE),
    **dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx"), _FLAG),
    "activation_function": (lambda value: isinstance(value, str), "a name"),
}


@dataclass(frozen=True)
class GPT2Config:
    """Configuration of a body: the fields of config.json that change what it computes, with its names and defaults."""

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
        """The factor of attention scores in a layer, from 0."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: str = "config.json") -> "GPT2Config":
        """Makes a configuration from the fields of a config.json; ignores unknown fields.

        Args:
            fields: name -> value.
            where: the file's name, for errors.

        Raises:
            UserError: a value is invalid or not supported.
        """
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
        if config.activation_function not in ACTIVATION_NAMES:
            hint = nearest(config.activation_function, ACTIVATION_NAMES)
            name = shown(config.activation_function)
            raise UserError(f"{where}: activation_function {name} is not supported.{hint}")
        return config
