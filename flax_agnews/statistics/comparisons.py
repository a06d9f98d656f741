"""Differences of strategies, paired by seed and text: intervals, p, and which differences are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from flax_agnews.statistics.crossed import estimate, limits, p_value
from flax_agnews.statistics.intervals import LEVEL
from flax_agnews.statistics.outcomes import FloatArray, Outcomes
from flax_agnews.statistics.permutation import sign_flip_p
from flax_agnews.statistics.planning import SeedsNeeded, seeds_needed

FEWEST_SEEDS = 5
"""Common seeds below which no p is given and no difference counts as shown."""
_ADDED = (-1.0, 1.0)
"""Imaginary texts of a difference of shares: one that only each strategy gets right (`crossed.estimate`)."""


@dataclass(frozen=True)
class Difference:
    """Score of strategy `a` minus that of `b` on the same texts and seeds.

    Attributes:
        a, b: names.
        n_seeds: number of common seeds; None where neither has seeds. A method without seeds is paired with all
            seeds of the other.
        mean: mean difference; None without a common seed, as all that follows.
        low, high: 95 % interval of this one difference for other seeds and texts; None where no noise is seen.
        low_of_all, high_of_all: wider interval: that all pairs' contain their true differences holds in 95 % of
            experiments (Bonferroni).
        p: two-sided p of no difference: the level at which the interval ends at 0. None below
            `FEWEST_SEEDS`, or where no noise is seen.
        p_permutation: p of the sign-flip test (`permutation.sign_flip_p`); with S seeds it can't be far below 2^(1-S)
            where the seeds' noise is the larger. None where p is.
        p_holm: p after Holm's correction for all pairs. None where p is.
        shown: whether a difference is shown: p_holm is at most 5 %, and so is p_permutation, or it is at most the
            smallest that so many seeds allow.
        needed: seeds that would show a difference of this size; None where it is shown.
    """

    a: str
    b: str
    n_seeds: int | None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    low_of_all: float | None = None
    high_of_all: float | None = None
    p: float | None = None
    p_permutation: float | None = None
    p_holm: float | None = None
    shown: bool = False
    needed: SeedsNeeded | None = None

    @property
    def turned(self) -> "Difference":
        """The same difference seen from `b`: score of `b` minus that of `a`."""
        mean, low, high, low_of_all, high_of_all = (
            None if value is None else -value
            for value in (self.mean, self.high, self.low, self.high_of_all, self.low_of_all)
        )
        ends = replace(self, low=low, high=high, low_of_all=low_of_all, high_of_all=high_of_all)
        return replace(ends, a=self.b, b=self.a, mean=mean)


def compare_all(outcomes: Mapping[str, Outcomes]) -> list[Difference]:
    """All pairs' differences, in the order of the names: the earlier minus the later.

    The claims `shown` are false for any pair in at most 5 % of experiments.

    Args:
        outcomes: name -> outcomes of one score on the same texts.
    """
    pairs = list(combinations(outcomes, 2))
    found = [compare(a, b, outcomes[a], outcomes[b], len(pairs)) for a, b in pairs]
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else _judged(one, next(adjusted)) for one in found]


def compare(a: str, b: str, of_a: Outcomes, of_b: Outcomes, pairs: int = 1) -> Difference:
    """Difference of two strategies, before Holm's correction: `p_holm` is None and `shown` False.

    Args:
        a, b: names.
        of_a, of_b: outcomes of one score on the same texts.
        pairs: number of pairs that are compared, for the simultaneous interval and the seeds needed.
    """
    n, values = paired(of_a, of_b)
    if not len(values):
        return Difference(a, b, n)
    added, possible = (_ADDED, (-1.0, 1.0)) if of_a.share else ((), (-np.inf, np.inf))
    noise = estimate(values, added)
    low, high = limits(noise, LEVEL, conservative=True, possible=possible)
    low_of_all, high_of_all = limits(noise, LEVEL / pairs, conservative=True, possible=possible)
    tested = bool(noise.error) and (n is None or n >= FEWEST_SEEDS)
    return Difference(
        a,
        b,
        n,
        float(noise.mean),
        low,
        high,
        low_of_all,
        high_of_all,
        p=float(p_value(noise)) if tested else None,
        p_permutation=sign_flip_p(values.mean(axis=1), noise) if tested else None,
        needed=seeds_needed(noise, LEVEL / pairs, max(FEWEST_SEEDS, len(values) + 1), without_seeds=n is None),
    )


def paired(a: Outcomes, b: Outcomes) -> tuple[int | None, FloatArray]:
    """Number of common seeds, None if neither has seeds; and differences a - b, [common seeds, texts]."""
    if a.values.shape[1] != b.values.shape[1] or a.share != b.share:
        raise ValueError("outcomes of one score on the same texts wanted")
    if a.seeds is None and b.seeds is None:
        return None, a.values - b.values
    common = common_seeds([a, b])
    return len(common), a.of(common) - b.of(common)


def common_seeds(outcomes: Sequence[Outcomes]) -> list[int]:
    """Seeds that all have, ascending; methods without seeds have every seed."""
    sets = [set(one.seeds) for one in outcomes if one.seeds is not None]
    return sorted(set.intersection(*sets)) if sets else []


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979, https://www.jstor.org/stable/4615733) adjusted p, in the order given."""
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p, np.float64)[order]))
    return adjusted.tolist()


def _judged(one: Difference, p_holm: float) -> Difference:
    """The difference with Holm's p and what follows from it."""
    smallest = 0.0 if one.n_seeds is None else 2.0 ** (1 - one.n_seeds)
    agrees = one.p_permutation is not None and one.p_permutation <= max(LEVEL, smallest) * (1 + 1e-9)
    shown = p_holm <= LEVEL and agrees
    return replace(one, p_holm=p_holm, shown=shown, needed=None if shown else one.needed)
