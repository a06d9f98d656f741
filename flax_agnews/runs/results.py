"""Results of finished runs, as `result.json` and `results.json` hold them."""

from collections.abc import Mapping
from typing import Any


def best_validation(run: Mapping[str, Any]) -> float:
    """A run's best validation accuracy, by which the best of several runs is chosen; -1 where it has none."""
    return max((value for value in run["val_accuracy"] if value is not None), default=-1.0)
