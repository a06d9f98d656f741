"""The charts' data against the content that they show."""

from dataclasses import replace

import numpy as np
import pytest
from support.page_contents import content

from flax_agnews.report.html.chart_data import (
    class_scores,
    drawn_epochs,
    known_metrics,
    tables,
    weakest_classes,
)
from flax_agnews.report.html.content import ClassScores, Curve, Estimate

CONTENT = content(strategies=3, seeds=2, texts=60, epochs=4)


def test_curves_have_a_row_for_every_run_split_and_epoch() -> None:
    found = tables(CONTENT)["curves"]
    assert {len(column) for column in found.values()} == {3 * 2 * 2 * 4}
    chosen = [
        k
        for k, key in enumerate(zip(found["name"], found["seed"], found["split"], strict=True))
        if key == ("llrd", 43, "training")
    ]
    (run,) = [curve for curve in CONTENT.curves if (curve.strategy, curve.seed) == ("llrd", 43)]
    np.testing.assert_allclose([found["accuracy"][k] for k in chosen], run.train_accuracy, rtol=1e-4)
    assert [found["epoch"][k] for k in chosen] == [1, 2, 3, 4]
    assert [found["f1"][k] for k in chosen] == [None] * 4  # of training there is none


def test_runs_that_ended_early_go_on_with_their_last_value() -> None:
    runs = [Curve(strategy="full", seed=s, validation_accuracy=a) for s, a in ((1, [0.5, 0.6]), (2, [0.4, 0.5, 0.7]))]
    found = tables(replace(CONTENT, curves=runs))["curves"]
    assert list(zip(found["seed"], found["epoch"], found["accuracy"], strict=True)) == [
        *((1, 1, 0.5), (1, 2, 0.6), (1, 3, 0.6)),
        *((2, 1, 0.4), (2, 2, 0.5), (2, 3, 0.7)),
    ]


def test_of_long_runs_thirty_epochs_are_drawn_with_the_first_and_the_last() -> None:
    assert [drawn_epochs(n) for n in (0, 1, 30)] == [set(), {1}, set(range(1, 31))]
    drawn = sorted(drawn_epochs(200))
    assert (len(drawn), drawn[0], drawn[-1]) == (30, 1, 200)
    assert max(np.diff(drawn)) - min(np.diff(drawn)) <= 1
    short = Curve(strategy="head", seed=1, validation_loss=[0.1] * 77)
    found = tables(replace(CONTENT, curves=[Curve(strategy="full", seed=1, validation_loss=[0.1] * 200), short]))
    ends = {name: max(e for n, e in zip(found["curves"]["name"], found["curves"]["epoch"], strict=True) if n == name)
            for name in ("full", "head")}  # fmt: skip
    assert ends == {"full": 200, "head": 77}


def test_only_metrics_that_some_run_has_are_offered() -> None:
    assert list(known_metrics(CONTENT.curves)) == ["accuracy", "f1", "loss"]
    assert list(known_metrics([Curve(strategy="full", seed=1, validation_loss=[0.5, None])])) == ["loss"]
    assert known_metrics([]) == {}


def test_differences_are_points_and_missing_p_is_empty() -> None:
    found = tables(CONTENT)["pairs"]
    expected = [100 * pair.difference.value for pair in CONTENT.differences]
    np.testing.assert_allclose(found["difference"], expected, rtol=1e-4)
    assert set(found["p"]) == {""}  # two seeds carry none


def test_of_many_classes_the_weakest_are_drawn() -> None:
    scores = np.random.default_rng(0).permutation(20) / 20
    every = [
        ClassScores(name, c, Estimate(0.5), Estimate(0.5), Estimate(float(score)))
        for name in ("full", "lora")
        for c, score in enumerate(scores)
    ]
    many = replace(CONTENT, classes=[f"class {c}" for c in range(20)], class_scores=every)
    assert weakest_classes(many) == list(np.argsort(scores)[:12])
    assert len(class_scores(many)) == 24
    assert weakest_classes(CONTENT) == [0, 1, 2, 3]


def test_empty_parts_are_empty_tables() -> None:
    empty = replace(CONTENT, curves=[], differences=[], calibration=[], search=[], class_scores=[])
    assert {name: len(table) for name, table in tables(empty).items() if name != "entries"} == dict.fromkeys(
        ("curves", "pairs", "calibration", "search", "classes"), 0
    )


@pytest.mark.parametrize("cost", ["trained", "seconds", "tokens"])
def test_entries_know_whether_they_are_on_a_front(cost: str) -> None:
    found = tables(CONTENT)["entries"]
    points = list(zip(found[cost], found["accuracy"], strict=True))
    for point, on in zip(points, found[f"front_{cost}"], strict=True):
        rivals = [other for other in points if other[0] is not None and other != point]
        beaten = point[0] is None or any(x <= point[0] and y >= point[1] for x, y in rivals)
        assert on == (not beaten)
