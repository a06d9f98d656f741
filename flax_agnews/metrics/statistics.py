"""What a few seeds can say: means, intervals, paired tests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from flax_agnews.metrics.scores import same_texts

Run = Mapping[str, Any]

SCORES = ("test_accuracy", "test_macro_f1", "test_loss")
COSTS = (
    "train_seconds",
    "compile_seconds",
    "cache_seconds",
    "pretrain_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
)
# Differences of accuracies that are equal on paper differ in the last bits.
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


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the `n` common seeds, its sd, 95 % t-interval, and p of the two-sided paired t-test.

    Without a common seed all but `n` is None; with one, all but `n` and `mean`. When every seed gives the
    same difference (`sd` 0), `low`, `high` and `p` are None: the noise of the seeds cannot be estimated.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class McNemar:
    """Texts that only a, and only b, got right, and the exact two-sided p that both are equally likely."""

    only_a: int
    only_b: int
    p: float


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
    z = float(special.ndtri(0.975))
    center = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2)))
    return max(0.0, center - half), min(1.0, center + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference:
    """What a - b is over the seeds that both have; `a` and `b` map seeds to scores."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return PairedDifference(0, None, None, None, None, None)
    summary = summarize(a[seed] - b[seed] for seed in seeds)
    p = None
    if summary.sd:
        t = summary.mean / (summary.sd / np.sqrt(summary.n))
        p = float(2 * special.stdtr(summary.n - 1, -abs(t)))
    return PairedDifference(summary.n, summary.mean, summary.sd, summary.low, summary.high, p)


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> McNemar:
    """Exact McNemar test (1947) of two classifiers; each gives one truth value a text, for the same texts."""
    a, b = (part.astype(bool) for part in same_texts(correct_a, correct_b))
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(~a & b))
    tail = float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, min(1.0, 2 * tail))


def by_strategy(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each strategy, both in their given order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["strategy"], []).append(run)
    return groups


def summary(runs: Iterable[Run]) -> dict[str, Any]:
    """The `summary` section of results.json: by strategy `n`, and mean, sd, low, high of scores.

    Numbers are JSON-safe. A value that one run lacks (None, NaN, infinite) leaves that mean None: a mean over
    the runs that did not diverge would flatter the strategy.
    """
    return {
        name: {"n": len(group), **{key: _json_summary([run.get(key) for run in group]) for key in SCORES}}
        for name, group in by_strategy(runs).items()
    }


def costs(runs: Iterable[Run]) -> dict[str, float | None]:
    """Mean of each cost of a strategy's runs; None where it wasn't measured in every run."""
    every = list(runs)
    return {key: _json_summary([run.get("cost", {}).get(key) for run in every])["mean"] for key in COSTS}


def _json_summary(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [float(value) for value in values if value is not None and np.isfinite(value)]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "low", "high"))
    numbers = asdict(summarize(known))
    del numbers["n"]
    return numbers


def _sd(numbers: NDArray[np.float64]) -> float | None:
    if numbers.size < 2:
        return None
    equal = np.ptp(numbers) <= _ROUNDING * max(1.0, float(np.abs(numbers).max()))
    return 0.0 if equal else float(numbers.std(ddof=1))


def _t_interval(mean: float, sd: float | None, n: int) -> tuple[float | None, float | None]:
    if not sd:
        return None, None
    half = float(special.stdtrit(n - 1, 0.975)) * sd / float(np.sqrt(n))
    return mean - half, mean + half
