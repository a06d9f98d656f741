"""Replaces linear layers of a body by ones with adapters, and merges adapters into plain linear layers again."""

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.layers import Linear

LINEAR_LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Names of a transformer layer's linear layers, in the order of computing, as PEFT's target modules call them."""


def replaced(model: ClassifierModule, change: Callable[[int, str, Linear], Linear]) -> ClassifierModule:
    """A copy of the model, with the same arrays, in which some linear layers are replaced.

    Args:
        model: stays as it is.
        change: (number of the layer, name in `LINEAR_LAYERS`, linear layer) -> what takes its place; the same linear
            layer where it stays.
    """
    copied = nnx.clone(model)
    for layer, name, owner, leaf in _linear_layers(copied):
        setattr(owner, leaf, change(layer, name, getattr(owner, leaf)))
    return copied


def merged(model: ClassifierModule) -> ClassifierModule:
    """A classifier that computes the same by plain linear layers; the given one stays as it is.

    Raises:
        UserError: an adapter is no linear function.
    """
    return replaced(model, lambda layer, name, linear: linear.merged())


def unmerged(plain: ClassifierModule, adapted: ClassifierModule) -> ClassifierModule:
    """Undoes `merged`: the classifier with the adapters of `adapted` of which `plain` is the merged one.

    Args:
        plain: a classifier with plain linear layers.
        adapted: one with adapters.
    """
    adapters = {(layer, name): getattr(owner, leaf) for layer, name, owner, leaf in _linear_layers(adapted)}
    return replaced(plain, lambda layer, name, linear: adapters[layer, name].unmerged(linear))


def _linear_layers(model: ClassifierModule) -> Iterator[tuple[int, str, Any, str]]:
    """(number of the layer, name, module that has it, attribute of that module) of every linear layer of the body."""
    for layer, block in enumerate(model.transformer.h):
        for name in LINEAR_LAYERS:
            part, leaf = name.split(".")
            yield layer, name, getattr(block, part), leaf
