"""The part of the model that an operation of a compiled program belongs to, by the names in its path."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.support.hlo_text import Operation

LINEAR, ATTENTION, OPTIMIZER, COPIES, OTHER = "linear products", "attention products", "optimizer", "copies", "other"

SCOPES = {
    "linear": "linear, the rest",
    "attention": "attention, the rest",
    "norm": "norms",
    "activation": "activations",
    "dropout": "dropout",
    "embed": "embedding",
    "head": "head",
    "update": OPTIMIZER,
}
"""Name of a `jax.named_scope` -> part of an operation in it that isn't a product."""

PRODUCTS = {"linear": LINEAR, "attention": ATTENTION}

PARTS = (LINEAR, ATTENTION, *dict.fromkeys(SCOPES.values()), COPIES, OTHER)
"""All parts, in the table's order."""

CONTAINERS = ("call", "conditional", "while", "async-start", "async-done", "async-update")
"""Kinds of operations that run others, which are measured themselves."""

_MOVES = {"copy", "copy-start", "copy-done", "transpose", "bitcast", "tuple"}
_LIBRARIES = ((r"fmha|flash|cudnn", ATTENTION), (r"gemm|gemv|cublas|cutlass|nvjet|xmma", LINEAR))
_COPYING = re.compile(r"memcpy|memset", re.I)


class Place(NamedTuple):
    """A part of the model, and whether an operation computes gradients of it rather than the part itself."""

    part: str
    backward: bool


def place_of(operation: Operation, update: bool) -> Place:
    """The part that an operation belongs to; a fusion with a product belongs where its product does.

    Without names, products of many pairs of matrices are attention's, and others those of linear layers.

    Args:
        operation: an operation that a device ran.
        update: whether its program is the optimizer's.
    """
    every = (operation, *operation.inner)
    if update:
        return Place(OPTIMIZER, False)
    if product := next((one for one in every if one.product), None):
        name = scope(product.path) or scope(operation.path)
        unnamed = ATTENTION if product.batched else LINEAR
        part = PRODUCTS.get(name) or SCOPES.get(name, unnamed)
        return Place(part, backward(product.path) or backward(operation.path))
    if all(one.kind in _MOVES for one in operation.inner or (operation,)):
        return Place(COPIES, backward(operation.path))
    path = path_of(operation)
    if "fmha" in operation.target:
        return Place(ATTENTION, backward(path))
    return Place(SCOPES.get(scope(path), OTHER), backward(path))


def path_of(operation: Operation) -> str:
    """An operation's own path; where it has no scope, a path of the scope that most of its inner operations have."""
    if scope(operation.path):
        return operation.path
    paths = [one.path for one in operation.inner if scope(one.path)]
    if not paths:
        return operation.path
    ((most, _),) = Counter(map(scope, paths)).most_common(1)
    return next(path for path in reversed(paths) if scope(path) == most)


def scope(path: str) -> str:
    """The innermost known scope of a path; empty without one. Functions, as in `jit(norm)`, aren't scopes."""
    for name in reversed(path.split("/")):
        if "jit(" not in name and (known := [word for word in re.findall(r"\w+", name) if word in SCOPES]):
            return known[-1]
    return ""


def backward(path: str) -> bool:
    """Whether an operation of a path computes gradients."""
    return "transpose(" in path


def place_of_kernel(name: str) -> Place:
    """The part of a kernel that no program knows, by its name."""
    if _COPYING.search(name):
        return Place(COPIES, False)
    return Place(next((part for pattern, part in _LIBRARIES if re.search(pattern, name, re.I)), OTHER), False)


def as_kernel(names: Sequence[str]) -> dict[str, str]:
    """Names of operations as GPU kernels are called -> the operations' own names."""
    return {re.sub(r"[.\-]", "_", name): name for name in names}
