"""Module <-> flat dictionary of parameters, by path (`transformer/h/6/mlp/c_fc/kernel`): the library's vocabulary."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import numpy as np
from flax import nnx
from jax import Array

Leaf: TypeAlias = Any
"""A parameter's array: of JAX or NumPy, traced, or its shape alone where nothing is computed."""

Parameters = dict[str, Leaf]
"""Path -> array: a pytree of its own, with paths as keys."""

M = TypeVar("M", bound=nnx.Module)


@dataclass(frozen=True)
class Frame(Generic[M]):
    """A module without its parameters."""

    graph: Any
    variables: tuple[tuple[tuple[Any, ...], Any], ...]

    def merge(self, parameters: Mapping[str, Leaf]) -> M:
        """The module with these parameters (exactly the frame's paths); inside jit as well as outside."""
        flat = [(path, variable.replace(parameters[joined(path)])) for path, variable in self.variables]
        return nnx.merge(self.graph, nnx.from_flat_state(flat))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape, sorted by path."""
        return {joined(path): variable.get_value().shape for path, variable in self.variables}


def split(module: M) -> tuple[Frame[M], Parameters]:
    """A module -> its frame and its parameters."""
    graph, state = nnx.split(module)
    flat = list(nnx.to_flat_state(state))
    abstract = tuple(
        (path, v.replace(jax.ShapeDtypeStruct(v.get_value().shape, v.get_value().dtype))) for path, v in flat
    )
    return Frame(graph, abstract), {joined(path): v.get_value() for path, v in flat}


def abstract(make: Callable[[], M]) -> Frame[M]:
    """The frame of the module that `make` would build, without computing its parameters."""
    graph, state = nnx.split(nnx.eval_shape(make))
    return Frame(graph, tuple(nnx.to_flat_state(state)))


def joined(path: tuple[Any, ...]) -> str:
    """A path's parts -> `transformer/h/6/mlp/c_fc/kernel`."""
    return "/".join(map(str, path))


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def content_hash(parameters: Mapping[str, Array | np.ndarray]) -> str:
    """SHA-256 over paths, shapes and float32 values: the name of a set of weights."""
    digest = hashlib.sha256()
    for path in sorted(parameters):
        array = np.ascontiguousarray(parameters[path], np.float32)
        digest.update(f"{path} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()
