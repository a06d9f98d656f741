"""A classifier's answers to files of any size and to lines as they come, in constant memory."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flax_agnews.data import tables
from flax_agnews.data.rows import checked_texts
from flax_agnews.display import Display
from flax_agnews.errors import UserError, shown
from flax_agnews.files import check_writable, same_file
from flax_agnews.trained import Answers, Classifier

ROWS = 4096
"""Texts that are in memory at once: enough to batch like lengths together."""


def check_answering(source: Path, target: Path, columns: Sequence[str], prefix: str, classes: Sequence[str]) -> None:
    """Raises a `UserError` for what `answer_file` would refuse of its files, before a classifier is loaded.

    Arguments as in `answer_file`; `classes` are the classifier's.
    """
    if source.suffix.lower() != target.suffix.lower():
        raise UserError(f"--out {target}: must end in {source.suffix}, as --file does")
    if same_file(source, target):
        raise UserError(f"--out {target}: is the file that is read (--file {source}); name another one")
    first = next(tables.read(source, 1))
    first.rows(columns)
    tables.check_new(first.place, first.columns, _new_columns(classes, prefix))
    if target.is_dir():
        raise UserError(f"--out {target}: is a folder; name a file")
    if not target.parent.is_dir():
        raise UserError(f"--out {target}: there is no folder {target.parent}")
    check_writable(target, "--out")


def answer_file(
    classifier: Classifier, source: Path, target: Path, columns: Sequence[str], prefix: str, display: Display
) -> int:
    """Copies a file's rows with the answers to their texts; returns how many.

    Args:
        classifier: that answers.
        source: CSV, JSONL or Parquet.
        target: of the same kind; takes its name when it is whole.
        columns: of the texts; two for pairs.
        prefix: before the names of the new columns: `label`, and `p_CLASS` for each class's probability.
        display: where progress is shown.
    """
    check_answering(source, target, columns, prefix, classifier.classes)
    rows, started = 0, time.perf_counter()
    with tables.writing(target) as write, display:
        progress = display.start("predict", source.name, 1)
        for chunk in tables.read(source, ROWS):
            found = chunk.rows(columns)
            answers = classifier.predict(checked_texts(found) if found.texts else [])
            write(chunk, added(answers, prefix))
            rows += len(answers)
            progress.step(chunk.done)
        speed = rows / (time.perf_counter() - started)
        progress.finish(f"{rows:,} texts  {speed:,.0f} texts/s")
    return rows


def added(answers: Answers, prefix: str = "") -> tables.Added:
    """What is added to a table: the label, and one probability a class."""
    columns = [answers.labels, *answers.probabilities.T]
    return dict(zip(_new_columns(answers.classes, prefix), columns, strict=True))


def _new_columns(classes: Sequence[str], prefix: str) -> list[str]:
    return [f"{prefix}label", *(f"{prefix}p_{name}" for name in classes)]


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
