"""Parameters of which a device holds a part, and which are gathered by the layer that computes with them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jaxtyping import Array


@partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["axis", "over"])
@dataclass(frozen=True)
class Part:
    """A device's part of an array; takes the array's place in a module.

    Attributes:
        value: the part.
        axis: the axis along which the array is split.
        over: name of the mapped axis of the devices.
    """

    value: Any
    axis: int
    over: str

    def whole(self) -> Array:
        """Gathers the array; its gradient is summed over the devices, and each gets its part (a reduce-scatter)."""
        return jax.lax.all_gather(self.value, self.over, axis=self.axis, tiled=True)


def _is_part(value: Any) -> bool:
    return isinstance(value, Part)


def has_parts(tree: Any) -> bool:
    """Whether some leaves are parts."""
    return any(map(_is_part, jax.tree.leaves(tree, is_leaf=_is_part)))


def whole(tree: Any) -> Any:
    """The same tree with whole arrays instead of parts."""
    return jax.tree.map(lambda leaf: leaf.whole() if _is_part(leaf) else leaf, tree, is_leaf=_is_part)


def regathering(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose backward pass gathers its parts again, instead of keeping the arrays of the forward pass."""
    return jax.checkpoint(function, policy=lambda primitive, *_, **__: primitive.name != "all_gather")
