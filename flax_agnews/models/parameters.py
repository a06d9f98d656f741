"""Splits a module into its parameters, a flat dictionary by path (`transformer/h/6/mlp/c_fc/kernel`), and the rest."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

Leaf: TypeAlias = Any
"""A parameter's array: of JAX or NumPy, traced, or its shape alone where nothing is computed."""

Parameters = dict[str, Leaf]
"""Path -> array: a pytree of its own, with paths as keys."""

M = TypeVar("M", bound=nnx.Module)


@dataclass(frozen=True)
class Frame(Generic[M]):
    """A module without its parameters, from which `merge` makes the module again.

    Attributes:
        graph: Flax's static description of the module.
        variables: path and variable of each parameter, with its shape instead of its array.
    """

    graph: Any
    variables: tuple[tuple[tuple[Any, ...], Any], ...]

    def merge(self, parameters: Mapping[str, Leaf]) -> M:
        """Makes the module with these parameters, inside jit as well as outside.

        Args:
            parameters: by path; exactly the frame's paths.
        """
        flat = [(path, variable.replace(parameters[joined(path)])) for path, variable in self.variables]
        return nnx.merge(self.graph, nnx.from_flat_state(flat))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes, by path and sorted by it."""
        return {joined(path): variable.get_value().shape for path, variable in self.variables}


def split(module: M) -> tuple[Frame[M], Parameters]:
    """Splits a module into its frame and its parameters."""
    graph, state = nnx.split(module)
    flat = list(nnx.to_flat_state(state))
    abstract = tuple(
        (path, v.replace(jax.ShapeDtypeStruct(v.get_value().shape, v.get_value().dtype))) for path, v in flat
    )
    return Frame(graph, abstract), {joined(path): v.get_value() for path, v in flat}


def abstract(make: Callable[[], M]) -> Frame[M]:
    """Makes the frame of a module without computing its parameters.

    Args:
        make: builds the module.
    """
    graph, state = nnx.split(nnx.eval_shape(make))
    return Frame(graph, tuple(nnx.to_flat_state(state)))


def joined(path: tuple[Any, ...]) -> str:
    """Joins the parts of a path: `transformer/h/6/mlp/c_fc/kernel`."""
    return "/".join(map(str, path))


def count_numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers arrays of these shapes hold together."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def content_hash(parameters: Mapping[str, Array | np.ndarray]) -> str:
    """SHA-256 over the paths, shapes and float32 values of a set of weights."""
    digest = hashlib.sha256()
    for path in sorted(parameters):
        array = np.ascontiguousarray(parameters[path], np.float32)
        digest.update(f"{path} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()
