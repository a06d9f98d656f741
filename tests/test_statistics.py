"""Statistics against scikit-learn, SciPy's own tests and closed forms."""

import json
import math

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from flax_agnews import statistics


def _labels(seed: int, classes: int = 4, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return labels, np.where(rng.random(n) < 0.7, labels, rng.integers(0, classes, n))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    labels, predictions = _labels(seed)
    assert statistics.accuracy(labels, predictions) == pytest.approx(metrics.accuracy_score(labels, predictions))
    np.testing.assert_array_equal(
        statistics.confusion(labels, predictions, 4), metrics.confusion_matrix(labels, predictions)
    )
    assert statistics.macro_f1(labels, predictions, 4) == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro")
    )


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ([0, 0, 1], [0, 0, 1]),  # classes 2 and 3 neither present nor predicted
        ([0, 0, 2, 2], [0, 0, 0, 0]),  # class 2 present, never predicted
        ([0, 0, 0], [3, 0, 0]),  # class 3 predicted, absent
        ([1], [2]),
    ],
)
def test_a_class_without_hits_counts_zero_as_in_scikit_learn(labels: list[int], predictions: list[int]) -> None:
    expected = metrics.f1_score(labels, predictions, average="macro", labels=range(4), zero_division=0)
    assert statistics.macro_f1(labels, predictions, 4) == pytest.approx(expected)


def test_the_confusion_of_many_classes_is_kept_without_its_zeros() -> None:
    labels, predictions = _labels(0, classes=1000, n=5000)
    record = statistics.confusion_record(labels, predictions, 1000)
    expected = metrics.confusion_matrix(labels, predictions, labels=range(1000))
    assert {(i, j): n for i, j, n in statistics.confusion_cells(record)} == {
        (i, j): int(expected[i, j]) for i, j in zip(*np.nonzero(expected), strict=True)
    }
    assert len(json.dumps(record)) < 100_000
    expected_f1 = metrics.f1_score(labels, predictions, average="macro", labels=range(1000), zero_division=0)
    assert statistics.macro_f1(labels, predictions, 1000) == pytest.approx(expected_f1)


def test_the_confusion_of_few_classes_is_kept_whole() -> None:
    labels, predictions = _labels(0)
    record = statistics.confusion_record(labels, predictions, 4)
    assert record == metrics.confusion_matrix(labels, predictions).tolist()
    cells = list(statistics.confusion_cells([[1, 0], [2, 3]]))
    assert cells == [(0, 0, 1), (1, 0, 2), (1, 1, 3)]


def test_the_spread_over_classes() -> None:
    assert statistics.spread([7, 0, 2, 9, 2, 9]) == statistics.Spread(2, 3, 2, 9, 29, 1)
    assert statistics.spread([3, 2]).uneven is False
    assert statistics.spread([4, 2]).uneven is True


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_by_class_are_those_of_scikit_learn(seed: int) -> None:
    labels, predictions = _labels(seed, n=30)
    predictions[predictions == 3] = 0  # a class that is never answered
    ours = statistics.by_class(statistics.confusion(labels, predictions, 4))
    theirs = metrics.precision_recall_fscore_support(labels, predictions, labels=range(4), zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1", "texts")):
        assert [getattr(one, name) for one in ours] == pytest.approx(theirs[place].tolist())


def _logits(seed: int, n: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are twice as large as they should be: their softmax at temperature 2 has drawn the labels."""
    rng = np.random.default_rng(seed)
    logits = 4 * rng.standard_normal((n, classes))
    labels = (special.softmax(logits / 2, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, labels.clip(0, classes - 1)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_calibration_error_is_that_of_a_naive_loop(seed: int, bins: int) -> None:
    logits, labels = _logits(seed)
    p = special.softmax(logits, axis=1)
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i in range(len(p)) if low < max(p[i]) <= high]
        if inside:
            right = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
            confidence = sum(max(p[i]) for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(right - confidence)
    assert statistics.calibration_error(p, labels, bins) == pytest.approx(total)
    assert total > 0.01


def test_the_ends_of_bins_belong_to_the_lower_bin() -> None:
    """Half sure and right; sure and wrong: gaps of 1/2 and 1 in different bins."""
    p = [[0.5, 0.5], [1.0, 0.0]]
    assert statistics.calibration_error(p, [0, 1], bins=2) == pytest.approx((0.5 + 1) / 2)
    assert statistics.calibration_error([[0.5, 0.5], [0.75, 0.25]], [0, 1], bins=2) == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_temperature_is_the_likeliest(seed: int) -> None:
    """Beside a grid; and what drew the labels is found, within the noise of so many."""
    logits, labels = _logits(seed)
    found = statistics.temperature(logits, labels)
    grid = np.exp(np.linspace(np.log(0.5), np.log(8), 20001))
    losses = [metrics.log_loss(labels, special.softmax(logits / t, axis=1), labels=range(4)) for t in grid[::100]]
    best = grid[::100][int(np.argmin(losses))]
    assert found == pytest.approx(best, rel=0.02)
    at_found = metrics.log_loss(labels, special.softmax(logits / found, axis=1), labels=range(4))
    assert at_found <= min(losses) + 1e-12
    assert found == pytest.approx(2, rel=0.3)


def test_the_temperature_has_ends() -> None:
    """Nothing but right answers can't be sure enough, nothing but wrong ones not unsure enough."""
    logits = np.array([[3.0, 0.0], [0.0, 3.0]])
    assert statistics.temperature(logits, [0, 1]) == pytest.approx(0.01, rel=1e-3)
    assert statistics.temperature(logits, [1, 0]) == pytest.approx(100, rel=1e-3)


def test_unsigned_small_ids_do_not_overflow() -> None:
    ids = np.arange(200, dtype=np.uint8)
    np.testing.assert_array_equal(statistics.confusion(ids, ids, 200), np.eye(200, dtype=int))


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([0, 1], [0]), ([[0, 1]], [[0, 1]])])
def test_rows_that_are_no_pairs_are_refused(labels: list, predictions: list) -> None:
    with pytest.raises(ValueError, match="equally long"):
        statistics.accuracy(labels, predictions)


@pytest.mark.parametrize(("labels", "predictions"), [([0, 4], [0, 0]), ([0, 1], [0, -1])])
def test_ids_outside_the_classes_are_refused(labels: list[int], predictions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        statistics.confusion(labels, predictions, 4)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_summary_is_scipys_t_interval(n: int) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    result = statistics.summarize(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (result.n, result.mean) == (n, pytest.approx(values.mean()))
    assert result.sd == pytest.approx(math.sqrt(sum((v - values.mean()) ** 2 for v in values) / (n - 1)))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))


def test_two_values_have_the_closed_form() -> None:
    # One degree of freedom is the Cauchy distribution: its 97.5 % point is tan(0.475 pi).
    result = statistics.summarize([0.90, 0.94])
    half = math.tan(0.475 * math.pi) * 0.02
    assert (result.low, result.high) == (pytest.approx(0.92 - half), pytest.approx(0.92 + half))


def test_one_value_has_no_spread_and_equal_values_no_interval() -> None:
    assert statistics.summarize([0.5]) == statistics.Summary(1, 0.5, None, None, None)
    equal = statistics.summarize([0.1, 0.1, 0.1])
    assert (equal.sd, equal.low, equal.high) == (0.0, None, None)
    with pytest.raises(ValueError, match="no values"):
        statistics.summarize([])


def test_tiny_but_real_spread_is_kept() -> None:
    assert statistics.summarize([1e-6, 2e-6]).sd == pytest.approx(1e-6 / math.sqrt(2))


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 1), (934, 1000), (7123, 7600)])
def test_wilson_is_scipys(correct: int, n: int) -> None:
    expected = stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert statistics.wilson_interval(correct / n, n) == (
        pytest.approx(expected.low, abs=1e-12),
        pytest.approx(expected.high, abs=1e-12),
    )


@pytest.mark.parametrize(("accuracy", "n"), [(0.5, 0), (1.1, 10), (-0.1, 10)])
def test_wilson_refuses_nonsense(accuracy: float, n: int) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        statistics.wilson_interval(accuracy, n)


def test_paired_difference_is_scipys_paired_t_test_over_common_seeds() -> None:
    rng = np.random.default_rng(3)
    a = {seed: float(rng.normal(0.93, 0.01)) for seed in (41, 42, 43, 44, 45)}
    b = {seed: float(rng.normal(0.92, 0.01)) for seed in (45, 44, 43, 42, 99)}
    common = [42, 43, 44, 45]
    expected = stats.ttest_rel([a[s] for s in common], [b[s] for s in common])
    interval = expected.confidence_interval(0.95)
    result = statistics.paired_difference(a, b)
    assert result.n == len(common)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.low, result.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert result.mean == pytest.approx(np.mean([a[s] - b[s] for s in common]))


def test_paired_difference_says_what_it_cannot_know() -> None:
    nothing = statistics.paired_difference({1: 0.5}, {2: 0.5})
    assert nothing == statistics.PairedDifference(0, None, None, None, None, None)
    one = statistics.paired_difference({1: 0.75}, {1: 0.5})
    assert one == statistics.PairedDifference(1, 0.25, None, None, None, None)
    # 0.9 - 0.8 and 0.8 - 0.7 differ in the last bit only.
    constant = statistics.paired_difference({1: 0.9, 2: 0.8}, {1: 0.8, 2: 0.7})
    assert (constant.n, constant.mean, constant.sd) == (2, pytest.approx(0.1), 0.0)
    assert (constant.low, constant.high, constant.p) == (None, None, None)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (3, 8), (6, 6), (40, 25)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * 10 + [False] * 3)
    b = np.array([False] * only_a + [True] * only_b + [True] * 10 + [False] * 3)
    result = statistics.mcnemar_exact(a, b)
    n = only_a + only_b
    expected = stats.binomtest(only_a, n).pvalue if n else 1.0
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert result.p == pytest.approx(expected)
    assert statistics.mcnemar_exact(b, a).p == result.p


def test_mcnemar_all_on_one_side_has_the_closed_form() -> None:
    assert statistics.mcnemar_exact([True] * 8, [False] * 8).p == pytest.approx(2 * 0.5**8)


def _run(strategy: str, seed: int, accuracy: float, loss: float | None, **cost: float | None) -> dict:
    return {
        "strategy": strategy,
        "seed": seed,
        "test_accuracy": accuracy,
        "test_macro_f1": accuracy - 0.01,
        "test_loss": loss,
        "cost": cost,
    }


def test_summary_section_is_each_strategys_numbers() -> None:
    runs = [
        _run("full", 1, 0.90, 0.3, train_seconds=10.0),
        _run("prompt", 1, 0.80, 0.5, train_seconds=7.0),
        _run("full", 2, 0.94, 0.2, train_seconds=12.0),
    ]
    section = statistics.summary(runs)
    assert list(section) == ["full", "prompt"]
    assert (section["full"]["n"], section["prompt"]["n"]) == (2, 1)
    assert section["full"]["test_accuracy"]["mean"] == pytest.approx(0.92)
    assert section["full"]["test_accuracy"]["sd"] == pytest.approx(0.04 / math.sqrt(2))
    assert section["prompt"]["test_accuracy"]["sd"] is None


def test_costs_are_means_of_what_every_run_measured() -> None:
    runs = [
        _run("full", 1, 0.90, 0.3, train_seconds=10.0, peak_memory_bytes=5.0),
        _run("full", 2, 0.94, 0.2, train_seconds=12.0),
    ]
    assert statistics.costs(runs)["train_seconds"] == pytest.approx(11)
    assert statistics.costs(runs)["peak_memory_bytes"] is None


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_value_that_one_run_lacks_is_null_and_never_nan(missing: float | None) -> None:
    runs = [_run("full", 1, 0.9, 0.3), _run("full", 2, 0.3, missing)]
    section = json.loads(json.dumps(statistics.summary(runs), allow_nan=False))["full"]
    assert set(section["test_loss"].values()) == {None}
    assert section["test_accuracy"]["mean"] == pytest.approx(0.6)


def test_numpy_numbers_become_plain_ones() -> None:
    section = statistics.summary([_run("full", 1, np.float32(0.5), np.float32(0.25))])
    assert json.loads(json.dumps(section))["full"]["test_loss"]["mean"] == 0.25
