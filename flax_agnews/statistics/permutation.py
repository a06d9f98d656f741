"""A permutation test of differences that are paired by seed and by text."""

import numpy as np

from flax_agnews.statistics.crossed import Estimate
from flax_agnews.statistics.outcomes import FloatArray

_MOST_FLIPPED = 12
"""Up to this number of seeds all 2^S patterns of signs are gone through, above it that many drawn ones."""


def sign_flip_p(by_seed: FloatArray, found: Estimate) -> float:
    """Two-sided p of a mean difference of 0 when the signs of seeds' and texts' effects are exchangeable.

    Two strategies that are equal could change names: every seed's difference and every text's are as likely to have
    the other sign. The difference is split into the seeds' part and the texts' part, in proportion to their variances
    (its best guess where the true difference is 0), and all signs are flipped, the seeds' exactly, and the texts' by
    the normal distribution that so many independent signs have. Without noise of texts this is the exact sign-flip
    test of the seeds' differences (Fisher 1935, "The Design of Experiments", section 21), whose p is never below
    2^(1 - S); without noise of seeds, that of the texts' differences.

    Args:
        by_seed: [seeds] mean difference of each seed.
        found: the mean difference and its noise, which must not be 0.
    """
    from scipy import special  # slow to import, and most processes never need it

    center, part = float(found.center), float(found.of_seeds / found.error**2)
    of_seed = by_seed - by_seed.mean() + part * center
    of_texts = (1 - part) * center  # the texts' squared effects include their mean's
    spread = float(np.sqrt(found.of_texts * (1 - 1 / found.n_texts) + of_texts**2 / found.n_texts))
    flipped = _signs(len(by_seed)) @ of_seed / len(by_seed)
    observed = abs(center) * (1 - 1e-9)  # patterns that give the observed difference reach it, in spite of rounding
    if not spread:
        return float(np.mean(np.abs(flipped) >= observed))
    beyond = special.ndtr((flipped - observed) / spread) + special.ndtr((-flipped - observed) / spread)
    return float(beyond.mean())


def _signs(seeds: int) -> FloatArray:
    """Patterns of signs, [patterns, seeds]: all, or a fixed draw that has the observed one."""
    if seeds <= _MOST_FLIPPED:
        bits = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (2**_MOST_FLIPPED, seeds))
        bits[0] = 1
    return 2.0 * bits.astype(np.float64) - 1.0
