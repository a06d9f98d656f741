"""Reads the text of a compiled program (HLO): its operations, where in the model they are from, what they move."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import prod

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\w*\[([\d,]*)\]")
_PRODUCT_CALLS = re.compile(r'custom_call_target="[^"]*(gemm|matmul|cublas)', re.I)
_BATCHED = re.compile(r'lhs_batch_dims=\{\d|"lhs_batch_dimensions":\["')


_SLICES = ("slice", "dynamic-slice", "gather")
"""Kinds of operations that read a part of their first operand, as large as their result."""

_IN_PLACE = ("dynamic-update-slice", "scatter")
"""Kinds of operations that write a part of their first operand, as large as another operand."""


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
        operands: names of its operands.
        result: size of its results in bytes.
        bytes: bytes that it reads and writes, each once: of what it slices or updates only that part.
        inner: the operations of a fusion, without its parameters and constants.
    """

    name: str
    kind: str
    path: str
    root: bool
    target: str
    product: bool
    batched: bool
    operands: Sequence[str]
    result: int
    bytes: int = 0
    inner: Sequence["Operation"] = ()


def operations(text: str) -> dict[str, Operation]:
    """Name -> operation, of all computations of a program but those of fusions, which are in their fusion.

    Args:
        text: the program, as `jax.stages.Compiled.as_text` returns it.
    """
    computations: dict[str, list[Operation]] = {}
    calls: dict[str, str] = {}
    current: list[Operation] = []
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = computations.setdefault(begun[1], [])
        elif found := _OPERATION.match(line):
            root, name, result, kind, rest = found.groups()
            current.append(_operation(name, kind, result, rest, bool(root)))
            if kind == "fusion" and (called := re.search(r"\bcalls=%?([\w.\-]+)", rest)):
                calls[name] = called[1]
    fused = {*calls.values()}
    return {
        operation.name: _complete(operation, every, computations, calls)
        for computation, every in computations.items()
        if computation not in fused
        for operation in every
    }


def _operation(name: str, kind: str, result: str, rest: str, root: bool) -> Operation:
    path, target = re.search(r'op_name="([^"]*)"', rest), re.search(r'custom_call_target="([^"]*)"', rest)
    product = kind in ("dot", "convolution") or (kind == "custom-call" and bool(_PRODUCT_CALLS.search(rest)))
    batched = product and bool(_BATCHED.search(rest))
    operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
    size = array_bytes(result, workspace=kind != "custom-call")
    texts = (path[1] if path else "", root, target[1] if target else "")
    return Operation(name, kind, *texts, product, batched, operands, size)


def _complete(
    operation: Operation,
    beside: Sequence[Operation],
    computations: Mapping[str, Sequence[Operation]],
    calls: Mapping[str, str],
) -> Operation:
    """An operation with its bytes and, of a fusion, its inner operations; `beside` is its computation."""
    if operation.name not in calls:
        return replace(operation, bytes=_moved(operation, {one.name: one.result for one in beside}))
    body, inner = computations.get(calls[operation.name], ()), list[Operation]()
    for one in body:
        if one.kind not in ("parameter", "constant"):
            inner += [one, *_complete(one, body, computations, calls).inner]
    return replace(operation, bytes=_moved_by_fusion(body), inner=inner)


def _moved(operation: Operation, sizes: Mapping[str, int]) -> int:
    """Bytes that an operation reads and writes; an operand that is given twice is read once."""
    operands = [sizes.get(name, 0) for name in operation.operands]
    if operation.kind in _SLICES:
        return 2 * operation.result + sum(operands[1:])
    if operation.kind in _IN_PLACE:
        return sum(operands[1:]) + _written(operation, sizes)
    return sum(sizes.get(name, 0) for name in {*operation.operands}) + operation.result


def _written(operation: Operation, sizes: Mapping[str, int]) -> int:
    """Bytes of an operation's result that it writes; what a scatter adds to is read too."""
    if operation.kind == "dynamic-update-slice":
        return sizes.get(operation.operands[1], 0)
    return 2 * sizes.get(operation.operands[-1], 0) if operation.kind == "scatter" else operation.result


def _moved_by_fusion(body: Sequence[Operation]) -> int:
    """Bytes that a fusion reads and writes, given its computation."""
    known, sizes = {one.name: one for one in body}, {one.name: one.result for one in body}
    same = {one.name: one.operands[0] for one in body if one.kind == "bitcast" and one.operands}
    moved = 0
    for one in body:
        if one.kind == "parameter":
            names = {one.name, *(name for name, of in same.items() if of == one.name)}
            users = [user for user in body if user.kind != "bitcast" and names & {*user.operands}]
            parts = [_part(user, names) for user in users]
            moved += one.result if None in parts else min(one.result, sum(part or 0 for part in parts))
    roots = [one for one in body if one.root]
    outputs = [name for root in roots for name in (root.operands if root.kind == "tuple" else [root.name])]
    results = [known[same.get(name, name)] for name in outputs if same.get(name, name) in known]
    return moved + sum(_written(one, sizes) for one in results)


def _part(user: Operation, names: Set[str]) -> int | None:
    """Bytes that an operation reads of an operand with any of the names, if only a part; None if all."""
    if user.operands[0] not in names or names & {*user.operands[1:]}:
        return None
    return user.result if user.kind in _SLICES else 0 if user.kind in _IN_PLACE else None


def array_bytes(result: str, workspace: bool = True) -> int:
    """Bytes of arrays in a type such as `(bf16[8,4]{1,0}, s8[64]{0})`."""
    found = _ARRAY.findall(re.sub(r"/\*.*?\*/", "", result))
    if not workspace and len(found) > 1:
        found = [(kind, shape) for kind, shape in found if kind not in ("s8", "u8")]
    return sum(_bits(kind) * prod(int(n) for n in shape.split(",") if n) // 8 for kind, shape in found)


def _bits(kind: str) -> int:
    """Bits of a number of a type such as `bf16`, `f8` and `pred`; 0 for what isn't data."""
    digits = re.sub(r"\D", "", kind)
    return int(digits) if digits else 8 if kind == "pred" else 0
