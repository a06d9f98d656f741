"""Classifies files of any size, and lines of an input stream, in constant memory."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flax_agnews.data import layout, tables
from flax_agnews.data.chunks import check_new
from flax_agnews.data.layout import format_of
from flax_agnews.data.rows import checked_texts
from flax_agnews.errors import UserError, flag, shown
from flax_agnews.system.display import Display
from flax_agnews.system.files import check_writable, same_file
from flax_agnews.system.text import counted
from flax_agnews.trained.classifier import Answers, Classifier

ROWS = 4096
"""Number of texts in memory at once: enough to batch texts of similar length together."""


def check_apart(target_flag: str, target: Path, source_flag: str, source: Path) -> None:
    """Raises a `UserError` where the output file is one of the files that are read.

    Args:
        target_flag, target: the output file, and the flag that names it.
        source_flag, source: a file, a pattern of files or a folder that is read, and the flag that names it.
    """
    pattern = layout.is_pattern(str(source))
    read = layout.matching(str(source)) if pattern else source.rglob("*") if source.is_dir() else [source]
    if any(same_file(path, target) for path in read):
        raise UserError(f"{target_flag} {target}: is the file that is read ({source_flag} {source}); name another one")


def check_answering(
    source: Path,
    target: Path,
    columns: Sequence[str],
    prefix: str,
    classes: Sequence[str],
    delimiter: str | None = None,
) -> None:
    """Raises a `UserError` where `answer_file` could not read or write its files, before a classifier is loaded.

    Args:
        source, target, columns, prefix, delimiter: as in `answer_file`.
        classes: names of the classifier's classes.
    """
    if tables.kind_of(source) and format_of(source)[0] != format_of(target)[0]:
        raise UserError(f"{flag('out')} {target}: must end in {format_of(source)[0]}, as {flag('file')} does")
    check_apart(flag("out"), target, flag("file"), source)
    first = next(tables.read(source, 1, tables.Reading(columns, delimiter=delimiter)))
    first.rows(columns)
    check_new(first.place, first.columns, _new_columns(classes, prefix))
    if target.is_dir():
        raise UserError(f"{flag('out')} {target}: is a folder; name a file")
    if not target.parent.is_dir():
        raise UserError(f"{flag('out')} {target}: there is no folder {target.parent}")
    check_writable(target, flag("out"))


def answer_file(
    classifier: Classifier,
    source: Path,
    target: Path,
    columns: Sequence[str],
    prefix: str,
    display: Display,
    delimiter: str | None = None,
) -> int:
    """Copies a file's rows with the predictions for their texts added; returns the number of rows.

    `check_answering` has checked the files.

    Args:
        classifier: the classifier.
        source: CSV, TSV, JSON, JSONL or Parquet file.
        target: output file of the same format, compressed as its suffix says; it appears when it is complete.
        columns: text column, or two for pairs.
        prefix: prefix of the new columns' names: `label`, and `p_CLASS` for each class's probability.
        display: where progress is shown.
        delimiter: delimiter of a CSV file; None finds it in the header.
    """
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
        progress.finish(f"{counted(rows, 'text')}  {counted(round(speed), 'text')}/s")
    return rows


def added(answers: Answers, prefix: str = "") -> tables.Added:
    """The columns that predictions add to a table: the label, and a probability for each class."""
    columns = [answers.labels, *answers.probabilities.T]
    return dict(zip(_new_columns(answers.classes, prefix), columns, strict=True))


def _new_columns(classes: Sequence[str], prefix: str) -> list[str]:
    """Names of the columns that predictions add to a table."""
    return [f"{prefix}label", *(f"{prefix}p_{name}" for name in classes)]


def answer_lines(classifier: Classifier, lines: Iterable[str], tell: Callable[[str], None], at_once: int) -> None:
    """Classifies lines, and passes label, its probability and the text, separated by tabs, to `tell` for each.

    Args:
        classifier: the classifier.
        lines: one text each; for a classifier of pairs, two texts separated by a tab.
        tell: called with each result, such as `print`.
        at_once: number of lines that are read and classified at a time.
    """
    waiting = iter(lines)
    while texts := list(itertools.islice(waiting, at_once)):
        answers = classifier.predict([_pair(text) for text in texts] if classifier.pairs else texts)
        for text, label, p in zip(texts, answers.labels, answers.probabilities.max(axis=1), strict=True):
            tell(f"{shown(label)}\t{p:.4f}\t{shown(text, 80)}")


def _pair(line: str) -> tuple[str, str]:
    """Splits a line into the two texts of a pair."""
    first, tab, second = line.partition("\t")
    if not tab or "\t" in second:
        raise UserError(f"{shown(line, 80)}: the classifier answers pairs: two texts with a tab between")
    return first, second
