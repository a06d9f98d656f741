"""A classifier's answers to files of any size and to lines as they come, in constant memory."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flax_agnews.data import tables
from flax_agnews.data.layout import format_of
from flax_agnews.data.rows import checked_texts
from flax_agnews.display import Display
from flax_agnews.errors import UserError, shown
from flax_agnews.trained import Answers, Classifier
from flax_agnews.units import counted

ROWS = 4096
"""Texts that are in memory at once: enough to batch like lengths together."""


def answer_file(
    classifier: Classifier,
    source: Path,
    target: Path,
    columns: Sequence[str],
    prefix: str,
    display: Display,
    delimiter: str | None = None,
) -> int:
    """Copies a file's rows with the answers to their texts; returns how many.

    Args:
        classifier: that answers.
        source: CSV, TSV, JSON, JSONL or Parquet.
        target: of the same kind, compressed as its suffix says; takes its name when it is whole.
        columns: of the texts; two for pairs.
        prefix: before the names of the new columns: `label`, and `p_CLASS` for each class's probability.
        display: where progress is shown.
        delimiter: of a CSV file; None finds it in the header.
    """
    if tables.kind_of(source) and format_of(source)[0] != format_of(target)[0]:
        raise UserError(f"--out {target}: must end in {format_of(source)[0]}, as --file does")
    rows, started = 0, time.perf_counter()
    with tables.writing(target) as write, display:
        progress = display.start("predict", source.name, 1)
        for chunk in tables.read(source, ROWS, tables.Reading(columns, delimiter=delimiter)):
            found = chunk.rows(columns)
            answers = classifier.predict(checked_texts(found) if found.texts else [])
            write(chunk, added(answers, prefix))
            rows += len(answers)
            progress.step(chunk.done)
        speed = rows / (time.perf_counter() - started)
        progress.finish(f"{counted(rows, 'text')}  {speed:,.0f} texts/s")
    return rows


def added(answers: Answers, prefix: str = "") -> tables.Added:
    """What is added to a table: the label, and one probability a class."""
    names = enumerate(answers.classes)
    return {f"{prefix}label": answers.labels} | {f"{prefix}p_{name}": answers.probabilities[:, i] for i, name in names}


def answer_lines(classifier: Classifier, lines: Iterable[str], tell: Callable[[str], None], at_once: int) -> None:
    """Tells `label, its probability, text`, with tabs between, for each line, `at_once` of them at a time.

    Of a classifier of pairs, a line has two texts with a tab between.
    """
    waiting = iter(lines)
    while texts := list(itertools.islice(waiting, at_once)):
        answers = classifier.predict([_pair(text) for text in texts] if classifier.pairs else texts)
        for text, label, p in zip(texts, answers.labels, answers.probabilities.max(axis=1), strict=True):
            tell(f"{shown(label)}\t{p:.4f}\t{shown(text, 80)}")


def _pair(line: str) -> tuple[str, str]:
    first, tab, second = line.partition("\t")
    if not tab or "\t" in second:
        raise UserError(f"{shown(line, 80)}: the classifier answers pairs: two texts with a tab between")
    return first, second
