"""The report's texts on the classes: names, class imbalance, and the confusion matrix."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flax_agnews.errors import listed
from flax_agnews.metrics.scores import confusion_cells, spread
from flax_agnews.report.answer import Answer
from flax_agnews.runs.results import DataResult, Results, RunResult
from flax_agnews.system.text import NOT_KNOWN, counted, escape, pipe_table, share_text, short_names

_MOST_CLASSES = 20  # most classes of a confusion matrix that is printed


def classes_text(data: DataResult) -> str:
    """Number and names of the classes, `2 classes (ham, spam)`; of many classes only the first names."""
    return f"{counted(len(data.classes), 'class')} ({listed(map(escape, short_names(data.classes)))})"


def balance(results: Results) -> Iterator[str]:
    """Lines on class imbalance, classes without training texts, and class weights, where there are any."""
    data, weighted = results.data, results.settings.get("class_weights") == "balanced"
    if data.class_texts:
        found, names = spread(data.class_texts), short_names(data.classes)
        rarest, commonest = (
            f"{escape(names[number])} has {texts:,} ({share_text(texts, found.texts)})"
            for number, texts in ((found.rarest, found.fewest), (found.commonest, found.most))
        )
        if found.uneven:
            yield (
                f"The classes are uneven: of the training texts {rarest}, and {commonest}, "
                f"{found.most / found.fewest:,.1f} times as many. Macro-F1 counts all classes alike, accuracy all "
                "texts."
            )
        if found.empty:
            empty = listed(escape(name) for name, texts in zip(names, data.class_texts, strict=True) if not texts)
            have = "has" if found.empty == 1 else "have"
            yield f"{counted(found.empty, 'class')} {have} no training texts, and can't be learned: {empty}."
    if weighted:
        yield (
            "In training, every class weighed the same (`train.class_weights`), and so it does in the training loss; "
            "accuracies, and the losses of validation and test, count every text alike."
        )


def confusions(answer: Answer) -> Iterator[str]:
    """The section with the first strategy's confusion matrix; of many classes, its ten largest errors."""
    best, names = answer.strategies[0].name, short_names(answer.results.data.classes)
    runs = answer.results.by_strategy[best]
    cells = _summed(runs)
    yield f"## What {escape(best)} confuses"
    summed = "" if len(runs) == 1 else f", summed over {counted(len(runs), 'seed')}"
    if len(names) > _MOST_CLASSES:
        worst = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: (-cells[cell], cell))[:10]
        yield f"The ten most frequent confusions{summed}:"
        yield pipe_table(
            ("true class", "predicted", "texts"), [(names[i], names[j], f"{cells[i, j]:,}") for i, j in worst]
        )
        return
    yield f"Test texts{summed}; rows are true classes, columns predictions:"
    yield pipe_table(("true class", *names, "recall"), _rows(cells, names))


def _summed(runs: Sequence[RunResult]) -> Counter[tuple[int, int]]:
    """Sums the runs' confusion matrices: (true class, predicted class) -> number of texts."""
    cells: Counter[tuple[int, int]] = Counter()
    for run in runs:
        for true, predicted, texts in confusion_cells(run.test_confusion):
            cells[true, predicted] += texts
    return cells


def _rows(cells: Mapping[tuple[int, int], int], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Rows of the printed confusion matrix, with the recall of each class in the last column."""
    numbers = range(len(names))
    table = np.array([[cells[true, predicted] for predicted in numbers] for true in numbers])
    for true, row in enumerate(table):
        recall = f"{100 * row[true] / row.sum():.1f} %" if row.sum() else NOT_KNOWN
        yield (names[true], *(f"{texts:,}" for texts in row), recall)
