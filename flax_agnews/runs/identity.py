"""The identity of a run or a learning-rate search: hashes that must match before it is resumed."""

from collections.abc import Mapping
from typing import Any

PLANNED = ("updates", "steps")
"""Hashes that depend on the number of epochs, which may grow; `experiment.continuation.Scheme` compares them."""


def changed(known: Mapping[str, Any], identity: Mapping[str, str]) -> list[str]:
    """Names of the hashes in `identity` that differ from those in `known`, read from a file; without `PLANNED`."""
    return [name for name in identity if name not in PLANNED and known.get(name) != identity[name]]
