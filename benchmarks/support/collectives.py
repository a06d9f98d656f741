"""Counts the bytes that the collectives of a compiled program move between devices, from its text (HLO)."""

import re
from collections import Counter
from collections.abc import Mapping

from benchmarks.support.hlo_text import array_bytes

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_SHAPED = re.compile(r"replica_groups=\[\d+,(\d+)\]")


def moved(text: str) -> dict[str, int]:
    """Kind of collective -> bytes that each device sends in a run of the program, by ring algorithms.

    With D devices a ring sends (D - 1) / D of a whole array in a gather or a scatter, and twice that in an all-reduce
    (Patarasuk and Yuan 2009, https://doi.org/10.1016/j.jpdc.2008.09.002). Operations in a loop count as often as it
    runs, where the compiler knows that, else once; both branches of a condition count.

    Args:
        text: the program, as `jax.stages.Compiled.as_text` returns it.
    """
    own: dict[str, Counter[str]] = {}
    calls: dict[str, list[tuple[str, int]]] = {}
    entry = current = ""
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = begun[2]
            own[current], calls[current] = Counter(), []
            entry = current if begun[1] else entry
        elif found := _OPERATION.match(line):
            result, operation, rest = found.groups()
            kind = operation.removesuffix("-start")
            if kind in KINDS:
                own[current][kind] += _sent(kind, result, rest, operation != kind)
            elif operation in ("while", "call", "conditional", "async-start"):
                trips = _TRIPS.search(rest)
                inner = [*_CALLED.findall(rest), *re.findall(r"[\w.\-]+", "".join(_BRANCHES.findall(rest)))]
                calls[current] += [(name, int(trips[1]) if trips else 1) for name in inner]
    return dict(_total(entry, own, calls))


def _total(name: str, own: Mapping[str, Counter[str]], calls: Mapping[str, list[tuple[str, int]]]) -> Counter[str]:
    """Bytes of a computation and of those that it calls."""
    total = Counter(own.get(name, {}))
    for inner, times in calls.get(name, []):
        for kind, size in _total(inner, own, calls).items():
            total[kind] += times * size
    return total


def _sent(kind: str, result: str, rest: str, started: bool) -> int:
    """Bytes that each device sends in one collective, given the operation's result and what follows its name."""
    listed, shaped = _LISTED.search(rest), _SHAPED.search(rest)
    devices = int(shaped[1]) if shaped else len(listed[1].split(",")) if listed and listed[1] else 1
    size = array_bytes(result)
    if started and kind == "all-gather":  # its result has the operands too
        size = size * devices // (devices + 1)
    if kind == "collective-permute":
        return size // 2 if started else size
    whole = size * devices if kind == "reduce-scatter" else size
    return (2 if kind == "all-reduce" else 1) * whole * (devices - 1) // devices if devices > 1 else 0
