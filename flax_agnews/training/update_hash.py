"""Hashes the updates that an optax transformation makes, to find out whether two transformations differ.

A transformation is a closure that hides its numbers, so it is run: with fixed gradients, in float64, through the steps
of a plan. Leaves that are updated by the same formula (found in the traced update) form a class, and one small array
represents each class: neither time nor memory grows with the model.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

Shapes = Mapping[str, tuple[int, ...]]
"""Path -> shape of each leaf."""

_DIGITS = 6  # significant digits; float64 differs between machines in about the sixteenth
_SCALES = (1.0, 1e-3, 30.0, 0.1, 1e3)  # factors of the gradients, in turn: clipping acts on some only
_SEGMENTS = 16  # parts of a window, each of which is summed, so that every step counts
_WHOLE, _WINDOWS, _WINDOW = 8192, 8, 512  # longer plans than _WHOLE run as _WINDOWS x _WINDOW steps
_REAL_WINDOW = 2  # steps in a window, of leaves in their real shapes
_SHAPE_ONLY = {"shape", "broadcast_dimensions", "sharding"}  # parameters of operations that only depend on array sizes


class Window(NamedTuple):
    """A range of steps whose updates are hashed.

    Attributes:
        first: number of its first step in the plan, from 0.
        length: number of steps.
    """

    first: int
    length: int


def behaviour(transformation: optax.GradientTransformation, shapes: Shapes, steps: int) -> str:
    """SHA-256 of the updates that a transformation makes in the first `steps` steps, rounded to six digits.

    Args:
        transformation: transformation of a dictionary of leaves by path.
        shapes: path -> shape of each leaf.
        steps: number of updates, independent of the plan for which the transformation was made.
    """
    leaves = {path: jax.ShapeDtypeStruct(shapes[path], jnp.float32) for path in sorted(shapes)}
    state = jax.eval_shape(transformation.init, leaves)
    described = [
        [jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]
    classes = _classes(transformation, leaves, state)
    smallest = [min(members, key=lambda path: (math.prod(shapes[path]), path)) for members in classes]
    numbers = _numbers(transformation, {path: shapes[path] for path in smallest}, steps)
    facts = [described, classes, steps, numbers]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _numbers(transformation: optax.GradientTransformation, shapes: Shapes, steps: int) -> list[str]:
    """Numbers of the updates, of small leaves; or of the real shapes, if the transformation accepts no others."""
    with jax.enable_x64(True), jax.default_device(_processor()):
        small = {path: _small(shape) for path, shape in shapes.items()}
        with suppress(Exception):  # any error, as of a transformation with a mask of the leaf's real shape
            return _run(transformation, small, _windows(steps, _WHOLE, _WINDOW))
        return _run(transformation, shapes, _windows(steps, 0, _REAL_WINDOW))


def _processor() -> Any:
    """A CPU, if JAX has one, so that the numbers are the same on every machine."""
    with suppress(RuntimeError):
        return jax.local_devices(backend="cpu")[0]
    return jax.local_devices()[0]


def _small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A small shape whose sides have the same order as those of `shape`, and are equal where those are."""
    sides = sorted({side for side in shape if side > 3})
    return tuple(side if side <= 3 else 4 + sides.index(side) for side in shape)


def _windows(steps: int, whole: int, length: int) -> list[Window]:
    """The steps to run: all, or evenly spaced windows from the first step to the last."""
    if steps <= max(whole, length):
        return [Window(0, steps)]
    firsts = np.linspace(0, steps - length, _WINDOWS).round().astype(int).tolist()
    starts = [first for number, first in enumerate(firsts) if not number or first >= firsts[number - 1] + length]
    return [Window(first, length) for first in starts]


def _run(transformation: optax.GradientTransformation, shapes: Shapes, windows: Sequence[Window]) -> list[str]:
    """Runs the windows; returns rounded numbers of each leaf's updates at some steps, and of sums over all steps."""
    params = {path: _fixed(shape, 0.3) for path, shape in shapes.items()}
    pushed = {path: _fixed(shape, 0.7) for path, shape in shapes.items()}

    def step(state: Any, number: Any) -> tuple[Any, Any]:
        scale = jnp.asarray(_SCALES)[number % len(_SCALES)] * (0.3 + (number * 0.618) % 1)
        gradients = {path: value * scale for path, value in pushed.items()}
        updates, after = transformation.update(gradients, state, params)
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)
        seen = [jnp.stack([(updates[p] * params[p]).sum(), (updates[p] * pushed[p]).sum()]) for p in shapes]
        return after, jnp.stack(seen)

    state = jax.tree.map(jnp.asarray, transformation.init(params))
    through = jax.jit(partial(jax.lax.scan, step)).lower(state, jnp.arange(windows[0].length)).compile()
    found: list[str] = []
    for number, window in enumerate(windows):
        after, seen = through(state, jnp.arange(window.first, window.first + window.length))
        found += _rounded(np.asarray(seen, np.float64))
        if number + 1 < len(windows):
            gap = windows[number + 1].first - window.first - window.length
            state = jax.tree.map(partial(_skipped, steps=window.length, gap=gap), state, after)
    return found


def _skipped(before: Any, after: Any, *, steps: int, gap: int) -> Any:
    """A leaf of the state after a gap of steps that are not run: counters of steps are advanced by `gap`."""
    if not jnp.issubdtype(after.dtype, jnp.integer):
        return after
    return jnp.where(after - before == steps, after + jnp.asarray(gap, after.dtype), after)


def _fixed(shape: tuple[int, ...], start: float) -> Any:
    """An array of fixed numbers between -1 and 1, away from 0, the same on every machine."""
    spread = (start + 0.6180339887498949 * np.arange(1, 1 + math.prod(shape))) % 1
    return jnp.asarray((np.where(spread < 0.5, spread - 1, spread)).reshape(shape))


def _rounded(seen: np.ndarray) -> list[str]:
    """Rounded numbers of [steps, leaves, 2]: values at some steps, and sums of (arcsinh) logarithms over segments."""
    steps = len(seen)
    shares = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
    at = sorted({*range(min(steps, 6)), *(int(share * steps) for share in shares), max(0, steps - 2), steps - 1})
    weights = 1 + (0.6180339887498949 * np.arange(steps)) % 1
    sizes = np.arcsinh(seen * 1e15) * weights[:, None, None]  # logarithmic, so that small updates count too
    sums = [part.sum(axis=0) for part in np.array_split(sizes, min(_SEGMENTS, steps))]
    return [f"{number:.{_DIGITS - 1}e}" for part in (*seen[at], *sums) for number in (part + 0.0).ravel()]


def _classes(transformation: optax.GradientTransformation, leaves: Mapping[str, Any], state: Any) -> list[list[str]]:
    """Groups the paths of leaves that are updated by the same formula, ordered by the first path of each group."""
    update = lambda gradients, state, params: transformation.update(gradients, state, params)[0]  # noqa: E731
    traced = jax.make_jaxpr(update)(leaves, state, leaves)
    states = [_role(path, leaves) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    given = [*["gradient"] * len(leaves), *states, *["parameter"] * len(leaves)]
    formulas = _formulas(traced.jaxpr, [_value(const) for const in traced.consts], given)
    classes: dict[str, list[str]] = {}
    for path, formula in zip(leaves, formulas, strict=True):
        classes.setdefault(formula, []).append(path)
    return list(classes.values())


def _role(path: Sequence[Any], leaves: Collection[str]) -> str:
    """Path of a leaf in the state, with `[*]` instead of the path of the parameter to which it belongs, if any."""
    return "".join("[*]" if getattr(key, "key", None) in leaves else str(key) for key in path)


def _formulas(jaxpr: Jaxpr, consts: Sequence[str], given: Sequence[str]) -> list[str]:
    """A hash of each output's formula, from hashes of the inputs; independent of array sizes."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *given], strict=True))

    def of(atom: Any) -> str:
        return _value(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [of(atom) for atom in equation.invars]
        for number, (out, formula) in enumerate(zip(equation.outvars, _applied(equation, inputs), strict=True)):
            known[out] = _short("out", str(number if formula is None else 0), formula or _text(equation, inputs))
    return [of(atom) for atom in jaxpr.outvars]


def _applied(equation: Any, inputs: Sequence[str]) -> list[str] | list[None]:
    """Hashes of the outputs' formulas if an operation calls functions; None for each output of other operations."""
    inside = {name: value for name, value in equation.params.items() if isinstance(value, ClosedJaxpr | Jaxpr)}
    if len(inside) == 1 and equation.primitive.name not in ("scan", "while"):
        [(_, called)] = inside.items()
        if len(_open(called).invars) == len(inputs):
            return _called(called)(inputs)
    if equation.primitive.name == "cond":
        branches = [_called(branch)(inputs[1:]) for branch in equation.params["branches"]]
        return [_short("cond", inputs[0], *each) for each in zip(*branches, strict=True)]
    return [None] * len(equation.outvars)


def _called(called: ClosedJaxpr | Jaxpr) -> Callable[[Sequence[str]], list[str]]:
    """`_formulas` of a called function, as a function of the inputs' hashes."""
    consts = [_value(const) for const in called.consts] if isinstance(called, ClosedJaxpr) else []
    return partial(_formulas, _open(called), consts)


def _open(called: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return called.jaxpr if isinstance(called, ClosedJaxpr) else called


def _text(equation: Any, inputs: Sequence[str]) -> str:
    """A hash of an operation with its parameters and inputs."""
    params = {name: str(value) for name, value in equation.params.items() if name not in _SHAPE_ONLY}
    return _short(equation.primitive.name, *(f"{name}={value}" for name, value in sorted(params.items())), *inputs)


def _value(value: Any) -> str:
    """A hash of a constant's numbers."""
    with suppress(TypeError, ValueError):
        array = np.asarray(value)
        return _short(str(array.dtype), str(array.shape), array.tobytes().hex() if array.size < 64 else _digest(array))
    return _short(repr(value))


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
