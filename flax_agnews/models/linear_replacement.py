"""Replaces linear layers of a body by layers with adapters, and merges adapters back into plain linear layers."""

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.gpt2_config import LINEAR_LAYERS
from flax_agnews.models.layers import Linear


def replaced(model: ClassifierModule, change: Callable[[int, str, Linear], Linear]) -> ClassifierModule:
    """Makes a copy of the model in which some linear layers are replaced; arrays are shared.

    Args:
        model: the classifier; not changed.
        change: (number of the transformer layer, name in `LINEAR_LAYERS`, linear layer) -> its replacement, or the same
            linear layer.
    """
    copied = nnx.clone(model)
    for layer, name, owner, leaf in _linear_layers(copied):
        setattr(owner, leaf, change(layer, name, getattr(owner, leaf)))
    return copied


def merged(model: ClassifierModule) -> ClassifierModule:
    """Makes a classifier of plain linear layers that computes the same; the given one is not changed.

    Raises:
        UserError: an adapter isn't linear, or can't be merged for another reason.
    """
    return replaced(model, lambda layer, name, linear: linear.merged())


def unmerged(plain: ClassifierModule, adapted: ClassifierModule) -> ClassifierModule:
    """Undoes `merged`: takes the adapters of `adapted` out of the weights of `plain`; gives the classifier with both.

    Args:
        plain: a merged classifier, with plain linear layers.
        adapted: a classifier with the adapters to take out.
    """
    adapters = {(layer, name): getattr(owner, leaf) for layer, name, owner, leaf in _linear_layers(adapted)}
    return replaced(plain, lambda layer, name, linear: adapters[layer, name].unmerged(linear))


def _linear_layers(model: ClassifierModule) -> Iterator[tuple[int, str, Any, str]]:
    """(number of the transformer layer, name, owning module, attribute in it) of every linear layer of the body."""
    for layer, block in enumerate(model.transformer.h):
        for name in LINEAR_LAYERS:
            part, leaf = name.split(".")
            yield layer, name, getattr(block, part), leaf
