"""What runs get wrong: confusions with their texts, texts that all strategies get wrong, and disputed ones."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flax_agnews.data.rows import Text as Content
from flax_agnews.data.sources import Texts
from flax_agnews.metrics.scores import confusion_cells, confusion_record
from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.evidence import TITLES
from flax_agnews.report.html.content import Confusion, Text
from flax_agnews.runs.references import MAJORITY

MOST_CLASSES = 500
"""Of more classes there are no confusion matrices, whose size is their square."""
MOST_TEXTS = 20_000
"""More texts can't be in a page of its size."""
_MOST_NUMBERS = 10**7  # of texts x classes x entries that are counted for the texts

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Cells of a confusion matrix: true classes, predicted classes, numbers of texts."""


def shown(answer: Answer) -> list[str]:
    """The entries whose answers are looked at: all but the majority class, which gives the same one to all texts."""
    return [entry.name for entry in answer.entries if not is_majority(entry)]


def is_majority(entry: Entry) -> bool:
    """Whether an entry is the majority class."""
    return entry.reference is not None and entry.name == TITLES[MAJORITY]


def informed(answer: Answer) -> list[str]:
    """Those of them with predictions."""
    return [name for name in shown(answer) if name in answer.evidence.names]


def cells_of(answer: Answer, name: str) -> Iterator[Cells]:
    """The test confusion matrix of each run of a strategy, or of a reference."""
    records = [run.test_confusion for run in answer.entry(name).runs]
    if not records:
        found = answer.evidence.split(name, "test")
        records = [confusion_record(found.labels, found.classes[0], found.probabilities.shape[-1])]
    for record in records:
        true, predicted, texts = np.array(list(confusion_cells(record)), np.int64).reshape(-1, 3).T
        yield true, predicted, texts


def confusions(answer: Answer, with_texts: bool) -> list[Confusion]:
    """Which classes every entry takes for which; with the numbers of the texts where they can be opened."""
    classes = len(answer.results.data.classes)
    if classes > MOST_CLASSES:
        return []
    found = []
    for name in shown(answer):
        counts = np.zeros((classes, classes), np.int64)
        seeds = 0
        for true, predicted, texts in cells_of(answer, name):
            counts[true, predicted] += texts  # a cell stands once in a matrix
            seeds += 1
        texts_of = _texts_of_cells(answer, name) if with_texts and name in answer.evidence.names else {}
        found.append(Confusion(name, seeds, counts.tolist(), texts_of))
    return found


def _texts_of_cells(answer: Answer, name: str) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(true class, predicted class) -> texts with the number of seeds that answered so, those of most seeds first."""
    found = answer.evidence.split(name, "test")
    classes = found.probabilities.shape[-1]
    _, texts = np.nonzero(found.wrong)
    keys, seeds = np.unique(texts * classes + found.classes[found.wrong], return_counts=True)
    texts, predicted = np.divmod(keys, classes)
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place in np.lexsort((texts, -seeds)).tolist():
        text = int(texts[place])
        cell = int(found.labels[text]), int(predicted[place])
        cells.setdefault(cell, []).append((text, int(seeds[place])))
    return cells


def hard_texts(answer: Answer) -> tuple[list[int], list[int]]:
    """Numbers of the test texts that all strategies get wrong, and of those that only some do.

    A strategy gets a text wrong where more than half of its seeds do. Both are empty for a single strategy. The second
    are sorted by the variance over strategies of the share of seeds that are wrong, the largest first: it is largest
    where half of the strategies are always wrong and the others never; of equal ones, the lower number is first.
    """
    names = list(answer.evidence.runs)
    if len(names) < 2:
        return [], []
    shares = np.stack([answer.evidence.split(name, "test").wrong.mean(axis=0) for name in names])
    lost = shares > 0.5
    everywhere, somewhere = lost.all(axis=0), lost.any(axis=0)
    disputed = np.flatnonzero(somewhere & ~everywhere)
    spread = shares[:, disputed].var(axis=0).round(12)  # equal ones differ in their last bits
    return np.flatnonzero(everywhere).tolist(), disputed[np.argsort(-spread, kind="stable")].tolist()


def opened(answer: Answer, texts: Texts, first: Sequence[int]) -> dict[int, Text]:
    """Test texts that some run gets wrong, with every entry's answers, as far as a page can hold so many.

    Args:
        answer: the answer, with predictions.
        texts: the test texts.
        first: numbers of the texts that are kept before all others, which follow by the number of wrong answers.
    """
    names = informed(answer)
    if not names:
        return {}
    classes = len(answer.results.data.classes)
    most = min(MOST_TEXTS, _MOST_NUMBERS // (classes * len(names)))
    wrong = np.sum([answer.evidence.split(name, "test").wrong.mean(axis=0) for name in names], axis=0)
    others = [number for number in np.argsort(-wrong, kind="stable").tolist() if wrong[number]]
    numbers = list(dict.fromkeys([*first, *others]))[:most]
    counts = {name: _counts(answer, name, numbers, classes) for name in names}
    return {
        number: Text(plain(texts.texts[number]), int(texts.labels[number]), origin(texts, number), _row(counts, place))
        for place, number in enumerate(numbers)
    }


def plain(content: Content) -> str:
    """A text as one string; the two of a pair stand on lines of their own."""
    return content if isinstance(content, str) else "\n".join(content)


def origin(texts: Texts, number: int) -> str:
    """File and row of a text, `test.csv row 12`; empty where they aren't known."""
    return "" if texts.origins is None else texts.origins.at(number)


def _row(counts: Mapping[str, list[list[int]]], place: int) -> dict[str, list[int]]:
    return {name: found[place] for name, found in counts.items()}


def _counts(answer: Answer, name: str, numbers: Sequence[int], classes: int) -> list[list[int]]:
    """Number of seeds for each class, [texts][classes]."""
    given = answer.evidence.split(name, "test").classes[:, numbers]
    counts = np.zeros((len(numbers), classes), np.int64)
    np.add.at(counts, (np.arange(len(numbers)), given), 1)
    return counts.tolist()
