"""The data of the page's charts as tables of columns, which JSON holds in little space."""

from collections.abc import Iterator, Sequence
from typing import Any

from flax_agnews.report.html.charts import CLASS_METRICS, METRICS
from flax_agnews.report.html.content import MOST_CLASSES, ClassScores, Curve, Estimate, PageContent
from flax_agnews.report.html.leaderboard import COST_COLUMNS, FRONT_COSTS, fronts, interval_text, percent
from flax_agnews.system.text import p_text

MOST_EPOCHS = 30
"""Of longer runs, so many epochs are drawn, evenly spread from the first to the last."""

Table = dict[str, list[Any]]


def tables(content: PageContent) -> dict[str, Table]:
    """Name of a data set in the charts -> its columns."""
    return {
        "entries": columns(_entries(content)),
        "curves": columns(_curves(content.curves)),
        "pairs": columns(_pairs(content)),
        "calibration": columns(_bins(content)),
        "search": columns(_trials(content)),
        "classes": columns(_classes(content)),
    }


def columns(rows: Iterator[dict[str, Any]]) -> Table:
    """Rows of equal keys as columns; numbers keep five significant digits, more than a picture shows."""
    found: Table = {}
    for row in rows:
        for key, value in row.items():
            found.setdefault(key, []).append(float(f"{value:.5g}") if isinstance(value, float) else value)
    return found


def known_metrics(curves: Sequence[Curve]) -> dict[str, str]:
    """Those of `METRICS` that some run has."""
    known = {score for row in _curves(curves) for score in METRICS if row[score] is not None}
    return {score: title for score, title in METRICS.items() if score in known}


def weakest_classes(content: PageContent) -> list[int]:
    """The classes that are drawn: all, or those with the lowest F1 (mean over strategies), the lowest first."""
    scores: dict[int, list[float]] = {}
    for one in content.class_scores:
        scores.setdefault(one.label, []).append(one.f1.value)
    if len(scores) <= MOST_CLASSES:
        return sorted(scores)
    return sorted(scores, key=lambda label: sum(scores[label]) / len(scores[label]))[:MOST_CLASSES]


def class_scores(content: PageContent) -> list[ClassScores]:
    """The scores of the classes that are drawn, class by class."""
    by_class: dict[int, list[ClassScores]] = {}
    for one in content.class_scores:
        by_class.setdefault(one.label, []).append(one)
    return [one for label in weakest_classes(content) for one in by_class[label]]


def _entries(content: PageContent) -> Iterator[dict[str, Any]]:
    on = fronts(content.entries)
    text = {column.key: column.text for column in COST_COLUMNS}
    for entry in content.entries:
        accuracy = entry.accuracy
        costs = {cost: getattr(entry.costs, cost) for cost in FRONT_COSTS}
        yield {
            "name": entry.name,
            "kind": entry.kind,
            "accuracy": accuracy.value,
            **_drawn_ends(accuracy),
            "interval": f"{interval_text(accuracy, percent)} %" if accuracy.low is not None else "",
            **costs,
            **{f"{cost}_text": text[cost](value) for cost, value in costs.items()},
            **{f"front_{cost}": entry.name in on[cost] for cost in FRONT_COSTS},
        }


def drawn_epochs(longest: int) -> set[int]:
    """The epochs that are drawn of runs of so many: all, or `MOST_EPOCHS` of them."""
    count = min(longest, MOST_EPOCHS)
    return {1 + round(k * (longest - 1) / max(count - 1, 1)) for k in range(count)}


def epochs(curve: Curve) -> int:
    """Number of epochs of a run."""
    return max(map(len, (curve.validation_accuracy, curve.validation_loss, curve.train_accuracy, curve.train_loss)))


def _curves(curves: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    """A row for each run, split and drawn epoch; runs that ended early go on with their last value."""
    longest: dict[str, int] = {}
    for curve in curves:
        longest[curve.strategy] = max(longest.get(curve.strategy, 0), epochs(curve))
    drawn = drawn_epochs(max(longest.values(), default=0)) | set(longest.values())
    for curve in curves:
        parts: dict[str, dict[str, Sequence[float | None]]] = {
            "validation": {
                "accuracy": curve.validation_accuracy,
                "f1": curve.validation_f1,
                "loss": curve.validation_loss,
            },
            "training": {"accuracy": curve.train_accuracy, "f1": curve.train_f1, "loss": curve.train_loss},
        }
        for split, scores in parts.items():
            for epoch in sorted(drawn):
                if epoch <= longest[curve.strategy] and any(scores.values()):
                    values = {
                        score: known[min(epoch, len(known)) - 1] if known else None for score, known in scores.items()
                    }
                    yield {"name": curve.strategy, "seed": curve.seed, "epoch": epoch, "split": split, **values}


def _at(known: Sequence[float | None], epoch: int) -> float | None:
    return known[min(epoch, len(known)) - 1] if known else None


def _pairs(content: PageContent) -> Iterator[dict[str, Any]]:
    """Differences in points of accuracy."""
    for pair in content.differences:
        found = pair.difference
        ends = {end: None if value is None else 100 * value for end, value in _ends(found).items()}
        p = "" if pair.p_holm is None else p_text(pair.p_holm)
        yield {"a": pair.a, "b": pair.b, "difference": 100 * found.value, **ends, "p": p}


def _bins(content: PageContent) -> Iterator[dict[str, Any]]:
    for place, one in enumerate(content.calibration):
        title = f"{percent(one.error.value)} · {one.strategy}"  # long titles are cut
        for found in one.bins:
            if found.count:
                values = {"confidence": found.confidence, "accuracy": found.accuracy, "count": found.count}
                yield {"name": one.strategy, "title": title, "place": place, **values}


def _trials(content: PageContent) -> Iterator[dict[str, Any]]:
    for place, one in enumerate(content.search):
        for trial in one.trials:
            values = {"factor": trial.factor, "accuracy": trial.accuracy, "chosen": trial.factor == one.chosen}
            yield {"name": one.strategy, "title": one.strategy, "place": place, **values}


def _classes(content: PageContent) -> Iterator[dict[str, Any]]:
    drawn = weakest_classes(content)
    for one in class_scores(content):
        row: dict[str, Any] = {
            "name": one.strategy,
            "title": content.classes[one.label],
            "place": drawn.index(one.label),
        }
        for metric in CLASS_METRICS:
            score: Estimate = getattr(one, metric)
            row[metric] = score.value
            row |= {f"{metric}_{end}": value for end, value in _drawn_ends(score).items()}
            row[f"{metric}_interval"] = interval_text(score, percent)
        yield row


def _ends(score: Estimate) -> dict[str, float | None]:
    return {"low": score.low, "high": score.high}


def _drawn_ends(score: Estimate) -> dict[str, float | None]:
    """The interval's ends; both are the value where there is none, since a chart without any end warns of it."""
    return {end: score.value if value is None else value for end, value in _ends(score).items()}
