"""The identity of a run or a learning-rate search: hashes that must match before it is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, flag, listed

START_ELSEWHERE = f"Choose another {flag('output')}, or {flag('overwrite')}"
"""Advice where an output folder holds something that was begun otherwise."""

PLANNED = ("updates", "steps")
"""Hashes that depend on the number of epochs, which may grow; `experiment.continuation.Scheme` compares them."""


def check_identity(place: Path, known: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Raises a `UserError` where hashes in `identity`, except `PLANNED`, differ from those in `known`.

    Args:
        place: what was begun: the folder of a run, or the file of a search.
        known: its hashes, as read from there.
        identity: the hashes that it should have.
    """
    if others := [name for name in identity if name not in PLANNED and known.get(name) != identity[name]]:
        raise UserError(f"{place}: was begun with other {listed(others)}. {START_ELSEWHERE}")
