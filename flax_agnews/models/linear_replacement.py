"""The linear layers of a body's layers, by name: replaced by others (adapters), and made plain again (merging)."""

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.layers import Linear

PRODUCTS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""The linear layers of a layer, in the order of computing, as PEFT's target modules call them."""


def replaced(model: ClassifierModule, change: Callable[[int, str, Linear], Linear]) -> ClassifierModule:
    """A copy, of the same arrays, in which `change` decides each product's place.

    Args:
        model: stays as it is.
        change: (layer, name, product) -> what takes its place; the product itself where nothing does.
    """
    copied = nnx.clone(model)
    for layer, name, owner, leaf in _products(copied):
        setattr(owner, leaf, change(layer, name, getattr(owner, leaf)))
    return copied


def merged(model: ClassifierModule) -> ClassifierModule:
    """A classifier with a plain body that computes the same; the given one stays as it is.

    Raises:
        UserError: something was added that is no linear function.
    """
    return replaced(model, lambda layer, name, product: product.merged())


def unmerged(plain: ClassifierModule, adapted: ClassifierModule) -> ClassifierModule:
    """A classifier with the adapters of `adapted`, such that its `merged` is `plain`."""
    adapters = {(layer, name): getattr(owner, leaf) for layer, name, owner, leaf in _products(adapted)}
    return replaced(plain, lambda layer, name, product: adapters[layer, name].unmerged(product))


def _products(model: ClassifierModule) -> Iterator[tuple[int, str, Any, str]]:
    """(layer, name, its module, its name there) of every product of the body."""
    for layer, block in enumerate(model.transformer.h):
        for name in PRODUCTS:
            part, leaf = name.split(".")
            yield layer, name, getattr(block, part), leaf
