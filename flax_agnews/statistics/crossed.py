"""Noise of a mean over seeds and texts, and its critical values: seeds and texts crossed, both random.

The model is y[seed, text] = mean + seed effect + text effect + rest, all effects random and uncorrelated (Searle,
Casella & McCulloch 1992, "Variance Components", chapter 4): another experiment has other seeds and other texts. The
variance of the mean over S seeds and T texts is that of the seeds' means (which holds seed effects and rest) plus that
of the text effects; both are estimated without bias by an analysis of variance.

Few seeds make the first part uncertain, and many texts make the second certain, so that the mean over its standard
error has no t distribution. Candidates were compared by simulation of 95 % intervals (normal effects, all ratios
of the two variances, 3, 5 and 10 seeds):

- a bootstrap of seeds and texts (Owen 2007, https://doi.org/10.1214/07-AOAS122), its percentiles, covers 76, 85 and
  90 % where the seeds' noise is the larger: 3 seeds drawn from 3 spread less than seeds do, and it knows no t;
- Satterthwaite's degrees of freedom cover 92.2, 94.2 and 94.8 % at worst, and false claims at the small p that
  corrections for many comparisons need are several times as frequent as they should be (6 times at 5 seeds, p of
  0.05 / 78, the pairs of 13 strategies);
- Cochran & Cox's critical value (1950, "Experimental Designs"), t of S - 1 and of T - 1 degrees of freedom, averaged
  with the variances as weights, covers 95.0 to 97.1, 96.4 and 95.7 %, the nearest: scores have it. At
  p of 0.05 / 78 it is wrong up to 1.2 times as often as it should be at 5 seeds;
- Banerjee's bound (1960, Sankhya 22, 357-358), the root of the same average of squares, is proven never to miss more
  often than it should, at any p. It covers 95.0 to 97.5, 96.6 and 95.8 %: differences, of which claims are made,
  have it.

With two seeds Cochran & Cox's covers 93.9 to 97.8 % of normal effects. With one seed only the texts' noise is known.

Seeds' effects that aren't normal cost some of it. Where one run in five collapses, of any strategy, intervals of scores
cover 78 and 91 % at 5 and 10 seeds (often no seed shows it), and claims stay rare; where half of all runs collapse, 13
equal strategies are told apart in 11 and 3 % of experiments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flax_agnews.statistics.outcomes import FloatArray

_ROUNDING = 1e-12
"""Standard errors below this part of the largest value are differences of last bits, and count as 0."""


@dataclass(frozen=True)
class Estimate:
    """Means over seeds and texts with their estimated noise; each array has the shape of what is estimated, or [].

    Attributes:
        mean: mean of the values.
        center: middle of the intervals; differs from the mean by the added texts of `estimate`.
        of_seeds: variance of the mean that comes from the seeds; 0 with one seed.
        of_texts: variance of the mean that comes from the texts.
        n_seeds, n_texts: numbers of seeds and texts.
    """

    mean: FloatArray
    center: FloatArray
    of_seeds: FloatArray
    of_texts: FloatArray
    n_seeds: int
    n_texts: int

    @property
    def error(self) -> FloatArray:
        """Standard error of the mean, from both sources; 0 where no noise is seen."""
        return np.sqrt(self.of_seeds + self.of_texts)


def estimate(values: FloatArray, added: tuple[float, ...] = ()) -> Estimate:
    """Mean and noise of values.

    Args:
        values: [..., seeds, texts]; leading axes are separate estimates.
        added: values of imaginary texts, the same for every seed, that center and noise are computed with. Shares
            need a few: all right on 100 texts is not certainty. 0, 0, 1, 1 for a share is Agresti & Coull's interval
            (1998, https://doi.org/10.1080/00031305.1998.10480550, "add two successes and two failures"), and -1, 1 for
            a difference of shares is Bonett & Price's (2012, https://doi.org/10.3102/1076998611411915).
    """
    *many, seeds, texts = values.shape
    filled = np.concatenate([values, np.broadcast_to(added, (*many, seeds, len(added)))], axis=-1)
    size = seeds * filled.shape[-1]
    center = filled.mean(axis=(-2, -1), keepdims=True)
    by_seed, by_text = (filled.mean(axis=axis, keepdims=True) - center for axis in (-1, -2))
    texts_square = seeds * _squares(by_text) / (filled.shape[-1] - 1)
    seeds_square, rest_square = np.zeros(many), np.zeros(many)
    if seeds > 1:
        seeds_square = filled.shape[-1] * _squares(by_seed) / (seeds - 1)
        rest_square = _squares(filled - center - by_seed - by_text) / ((seeds - 1) * (filled.shape[-1] - 1))
    of_seeds, of_texts = seeds_square / size, np.maximum(0.0, texts_square - rest_square) / size
    seen = of_seeds + of_texts > (_ROUNDING * np.abs(filled).max(axis=(-2, -1))) ** 2
    return Estimate(values.mean(axis=(-2, -1)), center[..., 0, 0], of_seeds * seen, of_texts * seen, seeds, texts)


def critical_value(found: Estimate, level: ArrayLike, conservative: bool) -> FloatArray:
    """Number of standard errors that the mean's error exceeds in a share `level` of experiments, on both sides.

    Args:
        found: means and noise, which must not be 0.
        level: share, such as 0.05, of the means' shape or for all.
        conservative: Banerjee's bound, which is never exceeded more often; otherwise Cochran & Cox's approximation.
    """
    from scipy import special  # slow to import, and most processes never need it

    half = np.asarray(level, np.float64) / 2
    part = found.of_seeds / (found.of_seeds + found.of_texts)
    of_seeds = -special.stdtrit(found.n_seeds - 1, half) if found.n_seeds > 1 else 0.0  # with one seed, its part is 0
    of_texts = -special.stdtrit(found.n_texts - 1, half)
    if conservative:
        return np.sqrt(part * of_seeds**2 + (1 - part) * of_texts**2)
    return part * of_seeds + (1 - part) * of_texts


def p_value(found: Estimate) -> FloatArray:
    """Two-sided p of a mean of 0: the level whose conservative interval ends at 0; NaN where no noise is seen."""
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.abs(found.center) / found.error
        low, high = np.full_like(observed, -700.0), np.zeros_like(observed)  # logarithms of levels
        for _ in range(45):  # to 700 / 2^45, below 1e-10 of p
            middle = (low + high) / 2
            larger = critical_value(found, np.exp(middle), conservative=True) > observed
            low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    return np.where(found.error > 0, np.exp(high), np.nan)


def ends(found: Estimate, level: float, conservative: bool) -> tuple[FloatArray, FloatArray]:
    """Ends of the means' intervals that miss in a share `level` of experiments; NaN where no noise is seen."""
    with np.errstate(invalid="ignore"):
        half = critical_value(found, level, conservative) * found.error
    return found.center - half, found.center + half


def limits(
    found: Estimate, level: float, conservative: bool, possible: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float] | tuple[None, None]:
    """Ends of one mean's interval, cut to the values that are possible; None where no noise is seen."""
    if not found.error:
        return None, None
    low, high = np.clip(ends(found, level, conservative), *possible)
    return float(low), float(high)


def _squares(values: FloatArray) -> FloatArray:
    """Sum of squares over the last two axes."""
    return np.einsum("...st,...st->...", values, values)
