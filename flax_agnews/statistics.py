"""Scores of predictions, sizes of classes, and what a few seeds can say: means, intervals, paired tests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

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
LARGEST_TABLE = 100
"""Classes up to which a confusion matrix is kept whole."""
EVEN = 1.5
"""Times as many texts as the rarest class has, up to which classes are called even: KEEL's data sets of a larger
"imbalance ratio" are its imbalanced ones (Alcalá-Fdez et al. 2011, https://sci2s.ugr.es/keel/imbalanced.php)."""
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


@dataclass(frozen=True)
class Spread:
    """How texts are spread over classes.

    Attributes:
        rarest, commonest: numbers of the classes with the fewest and the most texts, the first of equals.
        fewest, most: texts of these two; a class without any is not the rarest.
        texts: in all.
        empty: classes without texts.
    """

    rarest: int
    commonest: int
    fewest: int
    most: int
    texts: int
    empty: int

    @property
    def uneven(self) -> bool:
        """Whether the largest class is more than `EVEN` times as large as the smallest."""
        return self.most > EVEN * self.fewest


@dataclass(frozen=True)
class ClassScores:
    """How one class fared; `texts` have it as their label."""

    precision: float
    recall: float
    f1: float
    texts: int


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the predictions that equal their labels, 0 to 1. ValueError without any."""
    truth, guess = _pair(labels, predictions)
    return float(np.mean(truth == guess))


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [classes, classes]: rows are labels, columns predictions. ValueError for other class ids."""
    truth, guess = _ids(labels, predictions, classes)
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def confusion_record(labels: ArrayLike, predictions: ArrayLike, classes: int) -> list[list[int]] | dict[str, list[int]]:
    """The confusion matrix for JSON: its rows; above `LARGEST_TABLE` classes, where nearly all is 0, the other cells.

    These are three lists of equal length: `true` classes, `predicted` ones, and `texts`, the counts.
    """
    if classes <= LARGEST_TABLE:
        return confusion(labels, predictions, classes).tolist()
    truth, guess = _ids(labels, predictions, classes)
    cells, texts = np.unique(truth * classes + guess, return_counts=True)
    return {"true": (cells // classes).tolist(), "predicted": (cells % classes).tolist(), "texts": texts.tolist()}


def confusion_cells(record: Sequence[Sequence[int]] | Mapping[str, Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    """(true class, predicted class, texts) of every cell that isn't 0, of what `confusion_record` gave."""
    if isinstance(record, Mapping):
        yield from zip(record["true"], record["predicted"], record["texts"], strict=True)
        return
    for true, row in enumerate(record):
        yield from ((true, predicted, texts) for predicted, texts in enumerate(row) if texts)


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Unweighted mean F1 of all classes; one neither present nor predicted counts 0, as in scikit-learn."""
    truth, guess = _ids(labels, predictions, classes)
    right, *involved = (np.bincount(ids, minlength=classes) for ids in (truth[truth == guess], truth, guess))
    return float(np.mean(2 * right / np.maximum(sum(involved), 1)))


def balanced_weights(labels: NDArray[Any]) -> NDArray[np.float32]:
    """What each text weighs so that all classes weigh the same, and texts 1 on average: [texts].

    n / (classes x texts of its class), as scikit-learn's `balanced` (King & Zeng 2001, "Logistic Regression in Rare
    Events Data"); a class without texts is none.

    Args:
        labels: [texts] class numbers.
    """
    counts = np.bincount(labels)
    return (len(labels) / (np.count_nonzero(counts) * counts[labels])).astype(np.float32)


def spread(counts: ArrayLike) -> Spread:
    """How texts are spread over classes, from the number of texts of each."""
    texts = np.asarray(counts)
    rarest = int(np.where(texts > 0, texts, texts.max()).argmin())
    commonest = int(texts.argmax())
    empty = int((texts == 0).sum())
    return Spread(rarest, commonest, int(texts[rarest]), int(texts[commonest]), int(texts.sum()), empty)


def by_class(table: NDArray[np.int64]) -> list[ClassScores]:
    """Scores of each class, from a confusion matrix; what would divide by zero is 0, as in scikit-learn."""
    right, labels, answers = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    precision, recall = right / np.maximum(answers, 1), right / np.maximum(labels, 1)
    f1 = 2 * right / np.maximum(labels + answers, 1)
    rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), labels.tolist(), strict=True)
    return [ClassScores(*row) for row in rows]


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3).

    Args:
        probabilities: [texts, classes].
        labels: [texts] class ids.
        bins: of equal width, over the probability of the answer; its upper end belongs to a bin.
    """
    p, truth = np.asarray(probabilities, np.float64), np.asarray(labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """What divides the logits so that the labels are likeliest (Guo et al. 2017, section 4.2): 0.01 to 100.

    The negative log-likelihood is convex in the inverse temperature, so that what is found is the best of all.
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        return float((special.logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())

    ends = (np.log(0.01), np.log(100.0))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7}).x))


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
    a, b = (part.astype(bool) for part in _pair(correct_a, correct_b))
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


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ValueError(f"two equally long rows of values wanted, not shapes {a.shape} and {b.shape}")
    return a, b


def _ids(labels: ArrayLike, predictions: ArrayLike, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64, checked to be classes."""
    truth, guess = _pair(labels, predictions)
    for what, ids in (("label", truth), ("prediction", guess)):
        if ids.min() < 0 or ids.max() >= classes:
            raise ValueError(f"a {what} is outside 0..{classes - 1}")
    return truth.astype(np.int64), guess.astype(np.int64)


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
