"""Reads the text of a compiled program (HLO): its operations, where in the model they are from, what they move."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\w*\[([\d,]*)\]")
_PRODUCT_CALLS = re.compile(r'custom_call_target="[^"]*(gemm|matmul|cublas)', re.I)
_BATCHED = re.compile(r'lhs_batch_dims=\{\d|"lhs_batch_dimensions":\["')


@dataclass(frozen=True)
class Operation:
    """An operation of a compiled program, which a device runs as one kernel unless it is part of a fusion.

    Attributes:
        name: its name in the program, by which a profiler's trace knows it.
        kind: what it does: `fusion`, `dot`, `custom-call`, `copy` and so on.
        path: the functions and `jax.named_scope` names that it is from, such as `jit(f)/attention/linear/dot_general`;
            of a fusion that of its result. Empty where the compiler added it.
        root: whether it is the result of its computation.
        target: `custom_call_target` of a call of a library; else empty.
        product: whether it is a matrix product.
        batched: whether it is a product of many pairs of matrices.
        bytes: size of its operands and results.
        inner: the operations of a fusion, without its parameters and constants.
    """

    name: str
    kind: str
    path: str
    root: bool
    target: str
    product: bool
    batched: bool
    bytes: int
    inner: Sequence["Operation"] = ()


def operations(text: str) -> dict[str, Operation]:
    """Name -> operation, of all computations of a program but those of fusions, which are in their fusion.

    Args:
        text: the program, as `jax.stages.Compiled.as_text` returns it.
    """
    computations: dict[str, list[Operation]] = {}
    calls: dict[str, str] = {}
    sizes: dict[str, int] = {}
    current: list[Operation] = []
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current, sizes = computations.setdefault(begun[1], []), {}
        elif found := _OPERATION.match(line):
            root, name, result, kind, rest = found.groups()
            sizes[name] = _size(result)
            current.append(_operation(name, kind, rest, bool(root), _moved(result, kind, rest, sizes)))
            if kind == "fusion" and (called := re.search(r"\bcalls=%?([\w.\-]+)", rest)):
                calls[name] = called[1]
    fused = {*calls.values()}
    return {
        operation.name: _with_inner(operation, computations, calls)
        for computation, every in computations.items()
        if computation not in fused
        for operation in every
    }


def _operation(name: str, kind: str, rest: str, root: bool, moved: int) -> Operation:
    path, target = re.search(r'op_name="([^"]*)"', rest), re.search(r'custom_call_target="([^"]*)"', rest)
    product = kind in ("dot", "convolution") or (kind == "custom-call" and bool(_PRODUCT_CALLS.search(rest)))
    batched = product and bool(_BATCHED.search(rest))
    return Operation(name, kind, path[1] if path else "", root, target[1] if target else "", product, batched, moved)


def _with_inner(
    operation: Operation, computations: Mapping[str, Sequence[Operation]], calls: Mapping[str, str]
) -> Operation:
    if operation.name not in calls:
        return operation
    inner: list[Operation] = []
    for one in computations.get(calls[operation.name], ()):
        if one.kind not in ("parameter", "constant"):
            inner += [one, *_with_inner(one, computations, calls).inner]
    return replace(operation, inner=inner)


def _moved(result: str, kind: str, rest: str, sizes: Mapping[str, int]) -> int:
    """Bytes of an operation's operands, each counted once, and results; a library's workspace (bytes) is left out."""
    operands = {name for name in re.findall(r"%([\w.\-]+)", rest.split("), ")[0]) if name in sizes}
    return sum(sizes[name] for name in operands) + _size(result, workspace=kind != "custom-call")


def _size(result: str, workspace: bool = True) -> int:
    """Bytes of arrays in a type such as `(bf16[8,4]{1,0}, s8[64]{0})`."""
    found = _ARRAY.findall(re.sub(r"/\*.*?\*/", "", result))
    if not workspace and len(found) > 1:
        found = [(kind, shape) for kind, shape in found if kind not in ("s8", "u8")]
    return sum(_bits(kind) * prod(int(n) for n in shape.split(",") if n) // 8 for kind, shape in found)


def _bits(kind: str) -> int:
    """Bits of a number of a type such as `bf16`, `f8` and `pred`; 0 for what isn't data."""
    digits = re.sub(r"\D", "", kind)
    return int(digits) if digits else 8 if kind == "pred" else 0
