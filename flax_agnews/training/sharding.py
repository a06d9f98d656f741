"""Splits training over devices (`parallel.fsdp`): along which axis each array is split, and what a device then holds.

Fully sharded data parallelism (Rajbhandari et al. 2020, "ZeRO", stage 3, https://arxiv.org/abs/1910.02054; Zhao et al.
2023, https://arxiv.org/abs/2304.11277): each device keeps a part of every trained matrix, of its gradient and of the
optimizer's state. A step gathers a whole matrix where it is used, and drops it afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_agnews.models.parameters import Parameters
from flax_agnews.models.parts import Part
from flax_agnews.training.state import Setup

Shapes = Mapping[str, tuple[int, ...]]
"""Path -> shape of a whole leaf."""


def split_axis(shape: tuple[int, ...], devices: int, leading: int = 0) -> int | None:
    """The axis along which an array is split evenly over devices; None where each device holds all of it.

    Vectors (biases and norms) are a thousandth of a body, and each would cost a collective, so they aren't split. Of
    the axes that can be divided the first is taken: its parts are contiguous, so that nothing is copied to gather them.

    Args:
        shape: the array's shape.
        devices: number of devices.
        leading: number of leading axes, such as that of seeds, that are never split.
    """
    if devices == 1 or len(shape) - leading < 2:
        return None
    return next((axis for axis in range(leading, len(shape)) if shape[axis] and shape[axis] % devices == 0), None)


def split_places(tree: Any, mesh: Mesh, leading: int = 0) -> Any:
    """The sharding of each array (or shape) of a tree, split over the devices of a mesh with one axis.

    Args:
        tree: the arrays, or their shapes.
        mesh: the devices.
        leading: as for `split_axis`.
    """

    def place(x: Any) -> NamedSharding:
        axis = split_axis(np.shape(x), mesh.size, leading)
        return NamedSharding(mesh, P() if axis is None else P(*[None] * axis, *mesh.axis_names))

    return jax.tree.map(place, tree)


def placed_shape(x: Any, place: NamedSharding, *leading: int) -> jax.ShapeDtypeStruct:
    """The shape of an array (or shape) where it is placed, with further leading axes."""
    return jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype, sharding=place)


def joined(parameters: Parameters, shapes: Shapes, axis_name: str, layers: int) -> Parameters:
    """Parameters to compute with under a mapped axis of devices, given those that a device holds, parts among them.

    Parts of a layer become `Part`s, which the layer gathers when it is computed. The last layer, embeddings and head,
    which aren't shared functions of the program, are gathered here.

    Args:
        parameters: path -> array, whole or a device's part.
        shapes: path -> shape of the whole array.
        axis_name: name of the mapped axis.
        layers: number of the body's layers.
    """
    later = tuple(f"transformer/h/{layer}/" for layer in range(layers - 1))

    def ready(path: str, value: Any) -> Any:
        for axis, (own, full) in enumerate(zip(value.shape, shapes[path], strict=True)):
            if own != full:
                part = Part(value, axis, axis_name)
                return part if path.startswith(later) else part.whole()
        return value

    return {path: ready(path, value) for path, value in parameters.items()}


@dataclass(frozen=True)
class Share:
    """Estimated bytes that each device holds of a run that trains, without frozen weights and activations.

    Attributes:
        weights: trained weights.
        optimizer: the optimizer's state.
        gradients: gradients of the trained weights.
        gathered: three times the largest layer or table: its whole weights, their gradients before these are scattered,
            and the whole weights of the last layer.
    """

    weights: int
    optimizer: int
    gradients: int
    gathered: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.gradients + self.gathered


def share(setup: Setup, devices: int, seeds: int = 1) -> Share:
    """Estimates what each device holds of runs that are split over devices; nothing is computed.

    Args:
        setup: the adapted model and how it trains.
        devices: number of devices over which the state is split; 1 for a state that is whole on every device.
        seeds: number of runs that train together.
    """
    leaves = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in setup.trainable_shapes.items()}
    weights = sum(_part(leaf, devices) for leaf in leaves.values())
    optimizer = sum(_part(leaf, devices) for leaf in jax.tree.leaves(jax.eval_shape(setup.optimizer.init, leaves)))
    whole: dict[str, int] = {}
    for path, leaf in leaves.items():
        if split_axis(leaf.shape, devices) is not None:
            layer = "/".join(path.split("/")[:3]) if path.startswith("transformer/h/") else path
            whole[layer] = whole.get(layer, 0) + _part(leaf, 1)
    largest = max(whole.values(), default=0)
    return Share(seeds * weights, seeds * optimizer, seeds * weights, seeds * 3 * largest)


def _part(leaf: jax.ShapeDtypeStruct, devices: int) -> int:
    """Bytes that each device holds of an array."""
    return prod(leaf.shape) * leaf.dtype.itemsize // (1 if split_axis(leaf.shape, devices) is None else devices)
