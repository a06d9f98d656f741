"""Splits a module into a flat dictionary of its parameters by path (`transformer/h/6/mlp/c_fc/kernel`) and a frame."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

Leaf: TypeAlias = Any
"""A parameter's value: an array of JAX or NumPy, a tracer, or a `jax.ShapeDtypeStruct`."""

Parameters = dict[str, Leaf]
"""Path -> array; a pytree."""

M = TypeVar("M", bound=nnx.Module)


@dataclass(frozen=True)
class Frame(Generic[M]):
    """A module without its parameters; `merge` puts the two together again.

    Attributes:
        graph: Flax's static description of the module.
        variables: path and variable of each parameter, with its shape instead of its array.
    """

    graph: Any
    variables: tuple[tuple[tuple[Any, ...], Any], ...]

    def merge(self, parameters: Mapping[str, Leaf]) -> M:
        """Makes the module with these parameters, inside jit or outside.

        Args:
            parameters: path -> value, for exactly the frame's paths.
        """
        flat = [(path, variable.replace(parameters[joined(path)])) for path, variable in self.variables]
        return nnx.merge(self.graph, nnx.from_flat_state(flat))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path -> shape of each parameter, sorted by path."""
        return {joined(path): variable.get_value().shape for path, variable in self.variables}


def split(module: M) -> tuple[Frame[M], Parameters]:
    """Splits a module into its frame and its parameters."""
    graph, state = nnx.split(module)
    flat = list(nnx.to_flat_state(state))
    abstract = tuple(
        (path, v.replace(jax.ShapeDtypeStruct(v.get_value().shape, v.get_value().dtype))) for path, v in flat
    )
    return Frame(graph, abstract), {joined(path): v.get_value() for path, v in flat}


def abstract(make: Callable[..., M], *modules: nnx.Module) -> Frame[M]:
    """Makes the frame of a module without computing its parameters.

    Args:
        make: function that builds the module.
        modules: arguments of `make`; their parameters may be shapes, as those of `hollow` are.
    """
    graph, state = nnx.split(nnx.eval_shape(make, *modules))
    return Frame(graph, tuple(nnx.to_flat_state(state)))


def hollow(frame: Frame[M]) -> M:
    """The module of a frame, with shapes instead of arrays as its parameters."""
    shapes: dict[str, Any] = {p: jax.ShapeDtypeStruct(shape, np.float32) for p, shape in frame.shapes.items()}
    return frame.merge(shapes)


def joined(path: tuple[Any, ...]) -> str:
    """Joins the parts of a path: `transformer/h/6/mlp/c_fc/kernel`."""
    return "/".join(map(str, path))


def count_numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of scalars in arrays of these shapes together."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def content_hash(parameters: Mapping[str, Array | np.ndarray]) -> str:
    """SHA-256 over the paths, shapes and float32 values of a set of weights."""
    digest = hashlib.sha256()
    for path in sorted(parameters):
        array = np.ascontiguousarray(parameters[path], np.float32)
        digest.update(f"{path} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()
