"""A strategy's score with the 95 % interval that carries the noise of seeds and of test texts."""

from dataclasses import dataclass

from flax_agnews.statistics.crossed import estimate, limits
from flax_agnews.statistics.outcomes import Outcomes

LEVEL = 0.05
"""Share of experiments in which an interval may miss, or a claim of any difference be false."""
FEWEST_SEEDS = 3
"""Seeds from which on the interval covers 95 to 97 % of experiments, as simulations show (`crossed`)."""
ADDED = (0.0, 0.0, 1.0, 1.0)
"""Imaginary texts that a share's interval is computed with (`crossed.estimate`)."""


@dataclass(frozen=True)
class Interval:
    """Score over seeds and texts, and its 95 % interval for other seeds and other texts.

    Attributes:
        mean: mean of the seeds' scores.
        low, high: ends of the interval, cut to 0 to 1 for shares; None where all outcomes are equal and the score is
            not a share: no noise is seen, which is not certainty.
        n_seeds: number of seeds; None for a method without randomness.
        n_texts: number of texts.
        seeds_known: whether the interval carries the seeds' noise (two or more seeds, or a method without).
        promised: whether the interval is known to cover 95 % (`FEWEST_SEEDS` or more, or a method without).
    """

    mean: float
    low: float | None
    high: float | None
    n_seeds: int | None
    n_texts: int
    seeds_known: bool
    promised: bool


def interval(outcomes: Outcomes) -> Interval:
    """Mean and 95 % interval of one strategy's outcomes."""
    if outcomes.share:
        found = estimate(outcomes.values, ADDED)
        low, high = limits(found, LEVEL, conservative=False, possible=(0.0, 1.0))
    else:
        found = estimate(outcomes.values)
        low, high = limits(found, LEVEL, conservative=False)
    n = None if outcomes.seeds is None else len(outcomes.seeds)
    known, promised = (n is None or n >= fewest for fewest in (2, FEWEST_SEEDS))
    return Interval(float(found.mean), low, high, n, outcomes.values.shape[1], known, promised)
