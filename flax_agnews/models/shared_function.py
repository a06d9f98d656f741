"""Calls equal layers as one function, which XLA compiles once for all of them."""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.experimental.xla_metadata import set_xla_metadata

from flax_agnews.models.parts import has_parts, regathering, whole

_INLINED = "inlineable"
"""Attribute of a call in a program: XLA inlines a function where it is called, except where this is `false`."""


def called(layer: nnx.Module, x: Any, forward: Any, method: str = "__call__") -> Any:
    """Calls a layer's method; layers that differ in their weights only are one function of the program.

    On a CPU, where XLA would inline the function and compile each layer anew, it is kept from that: compiling takes a
    third less at 12 layers, and nearly the same for any number of them. Elsewhere XLA does as it likes. Parameters of
    which the device holds a part are gathered in the function, once forward and once backward.

    Args:
        layer: a layer whose static attributes are those of its equals: nothing in it may name its place in the body.
        x: input of the layer.
        forward: context of the pass in this layer, as a pytree.
        method: name of the method.
    """
    graph, state = nnx.split(layer)
    if jax.default_backend() != "cpu":
        return _shared(graph, method, state, x, forward)
    with set_xla_metadata(**{_INLINED: "false"}):
        return _compiled_once(graph, method, state, x, forward)


def _call(graph: nnx.GraphDef[Any], method: str, state: nnx.State, x: Any, forward: Any) -> Any:
    def one(state: nnx.State, x: Any) -> Any:
        return getattr(nnx.merge(graph, whole(state)), method)(x, forward)

    return (regathering(one) if has_parts(state) else one)(state, x)


_shared = jax.jit(_call, static_argnums=(0, 1))


@partial(jax.jit, static_argnums=(0, 1))
def _compiled_once(graph: nnx.GraphDef[Any], method: str, state: nnx.State, x: Any, forward: Any) -> Any:
    # The attribute is of this call alone: what the layer calls itself, `jnp.where` for example, is inlined.
    with set_xla_metadata(**{_INLINED: "true"}):
        return _call(graph, method, state, x, forward)
