"""Number of seeds that would show a difference of the size seen."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flax_agnews.statistics.crossed import Estimate, critical_value

MOST_SEEDS = 100
"""More seeds than these nobody pays for."""


@dataclass(frozen=True)
class SeedsNeeded:
    """Seeds that a difference of the size seen needs to be shown.

    Attributes:
        seeds: smallest number of seeds whose interval excludes 0, if difference and noise stay as they were seen;
            a plan's least, since a new experiment then shows it in about half of all cases. None where no number up
            to `MOST_SEEDS` is enough.
        limit: why `seeds` is None. "texts": with any number of seeds there are too few texts; "seeds": more than
            `MOST_SEEDS` would be needed; "unknown": with one seed the seeds' noise can't be seen.
    """

    seeds: int | None
    limit: Literal["texts", "seeds", "unknown"] | None


def seeds_needed(found: Estimate, level: float, fewest: int, without_seeds: bool = False) -> SeedsNeeded:
    """Seeds that a difference needs to be shown at `level`.

    Args:
        found: the difference and its noise.
        level: share of experiments in which the interval may miss, after correction for all pairs.
        fewest: least number of seeds that is asked for.
        without_seeds: whether neither strategy has seeds, so that more of them are no help.
    """
    if found.n_seeds == 1 and not without_seeds:
        return SeedsNeeded(None, "unknown")
    if without_seeds or _hidden(replace(found, of_seeds=np.zeros(())), level):
        return SeedsNeeded(None, "texts")
    for seeds in range(fewest, MOST_SEEDS + 1):
        if not _hidden(replace(found, of_seeds=found.of_seeds * found.n_seeds / seeds, n_seeds=seeds), level):
            return SeedsNeeded(seeds, None)
    return SeedsNeeded(None, "seeds")


def _hidden(found: Estimate, level: float) -> NDArray[np.bool_]:
    """Whether the interval contains 0, or no difference is there."""
    if not found.error:
        return found.center == 0
    return np.abs(found.center) <= critical_value(found, level, conservative=True) * found.error
