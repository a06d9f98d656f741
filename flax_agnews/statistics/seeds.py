"""Statistics over a few seeds: means and intervals."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Mathematically equal differences of accuracies differ in the last bits; this relative spread counts as none.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Summary:
    """Mean of `n` values, their sample sd (n - 1), and the 95 % t-interval of the mean.

    `sd` is None for one value. `low` and `high` are None as well when all values are equal: an interval
    without width would claim a certainty that a few seeds cannot give.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def summarize(values: Iterable[float]) -> Summary:
    """Mean, sample sd and 95 % t-interval of the mean. ValueError without values."""
    numbers = np.asarray(list(values), dtype=np.float64)
    if not numbers.size:
        raise ValueError("no values to summarize")
    mean, sd = float(numbers.mean()), _sd(numbers)
    low, high = _t_interval(mean, sd, numbers.size)
    return Summary(int(numbers.size), mean, sd, low, high)


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of one accuracy measured on `n` test texts (Wilson 1927)."""
    if n < 1 or not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy {accuracy} on {n} texts: 0 to 1 on 1 or more")
    from scipy import special  # slow to import, here and below, and most processes never need it

    z = float(special.ndtri(0.975))
    center = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2)))
    return max(0.0, center - half), min(1.0, center + half)


def _sd(numbers: NDArray[np.float64]) -> float | None:
    if numbers.size < 2:
        return None
    equal = np.ptp(numbers) <= _ROUNDING * max(1.0, float(np.abs(numbers).max()))
    return 0.0 if equal else float(numbers.std(ddof=1))


def _t_interval(mean: float, sd: float | None, n: int) -> tuple[float | None, float | None]:
    if not sd:
        return None, None
    from scipy import special

    half = float(special.stdtrit(n - 1, 0.975)) * sd / float(np.sqrt(n))
    return mean - half, mean + half
