"""Evaluates a trained classifier on labelled texts: accuracy, scores by class, calibration, worst mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from flax_agnews.data import tables
from flax_agnews.data.labels import How, choose_reading
from flax_agnews.data.rows import Rows, checked_texts
from flax_agnews.data.rows import Text as Text_
from flax_agnews.errors import UserError, flag, listed, shown
from flax_agnews.metrics import scores
from flax_agnews.metrics.scores import ClassScores
from flax_agnews.statistics.seeds import wilson_interval
from flax_agnews.system.display import Display
from flax_agnews.system.files import check_writable, expanded
from flax_agnews.system.text import counted
from flax_agnews.trained.classifier import Answers, Classifier
from flax_agnews.trained.streaming import ROWS, check_apart
from flax_agnews.training.history import score

BINS = 15
"""Number of bins of the calibration error, as in Guo et al. 2017."""

MOST_CLASSES = 30
"""Most classes that the printed table shows; of more, those with the lowest F1."""


@dataclass(frozen=True)
class Mistake:
    """A misclassified text.

    Attributes:
        place: position of the text in the file, such as its row.
        label: the true class.
        answer: the predicted class.
        probability: probability of the predicted class.
        text: beginning of the text, on one line.
    """

    place: str
    label: str
    answer: str
    probability: float
    text: str


@dataclass(frozen=True)
class Evaluation:
    """A classifier's scores on labelled texts.

    Attributes:
        texts: number of texts.
        accuracy, low, high: share of correct predictions, and its 95 % Wilson interval.
        macro_f1: unweighted mean F1 of the classes that occur.
        loss: mean cross-entropy, in nats.
        by_class: name of a class -> its scores.
        confusion: counts by [true class][predicted class]; above 100 classes, only the cells that aren't 0.
        calibration_error: expected calibration error, over 15 bins.
        temperature: the divisor of the logits that gives the lowest loss on these texts.
        calibration_error_mended: calibration error where each half of the texts is scaled with the temperature fitted
            on the other half; None for a single text.
        mistakes: the most confident mistakes, the most confident first.
        labels: how the labels were read, in words.
    """

    texts: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    loss: float
    by_class: dict[str, ClassScores]
    confusion: list[list[int]] | dict[str, list[int]]
    calibration_error: float
    temperature: float
    calibration_error_mended: float | None
    mistakes: list[Mistake]
    labels: str = ""


def check_evaluating(
    path: Path,
    text_columns: Sequence[str],
    label_column: str,
    delimiter: str | None,
    split: str,
    target: Path | None,
) -> None:
    """Raises a `UserError` where `evaluate` couldn't read a file or write the result, before a model is loaded.

    Args:
        path, text_columns, label_column, delimiter: as in `evaluate`.
        split: the split that is read where `path` is a folder.
        target: JSON file for the result, if any.
    """
    reading = tables.Reading([*text_columns, label_column], only=True, delimiter=delimiter)
    next(tables.read(path, 1, reading, split)).rows(text_columns, label_column)
    if target is None:
        return
    check_apart(flag("json"), target, flag("data"), path)
    if target.is_dir():
        raise UserError(f"{flag('json')} {target}: is a folder; name a file")
    check_writable(target, flag("json"))


def evaluate(
    classifier: Classifier,
    path: str | Path,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    display: Display | None = None,
    mistakes: int = 10,
    labels: How = "auto",
    delimiter: str | None = None,
) -> Evaluation:
    """Evaluates a classifier on a file of texts and labels, in constant memory but for the logits.

    Labels are names of classes or class numbers from 0. Which of the two is decided by all of them, so that the file is
    read twice.

    Args:
        classifier: the classifier to evaluate.
        path: CSV, TSV, JSON, JSONL or Parquet file; a pattern of several; or a folder, whose test split is read.
        text_columns, label_column: columns of the file, two text columns for pairs; by default those of the training
            data.
        display: where progress is shown; by default nowhere.
        mistakes: number of the most confident mistakes to keep.
        labels: how labels are read, as in `data.labels`; by default as in training for runs older than that setting.
        delimiter: delimiter of a CSV file; by default that of the training data, or else found in the header.

    Raises:
        UserError: the file can't be read, has no labelled row, or has a label that matches no class or two classes.
    """
    path, data = expanded(str(path)), classifier.data
    text_columns, label_column = text_columns or data.text_columns, label_column or data.label_column
    display = display or Display(Console(quiet=True, force_terminal=False))
    if labels == "auto" and data.labels == "legacy":
        labels = "legacy"
    reading = tables.Reading([*text_columns, label_column], only=True, delimiter=delimiter or data.delimiter)

    def chunks() -> Iterator[tuple[Rows, float]]:
        for chunk in tables.read(path, ROWS, reading, data.test_split):
            yield chunk.rows(text_columns, label_column), chunk.done

    classes = choose_reading((rows for rows, _ in chunks()), classifier.classes, labels, flag("labels"))
    logits, truths, worst, left_out = [], [], list[Mistake](), 0
    with display:
        progress = display.start("evaluate", path.name, 1)
        for rows, done in chunks():
            left_out += rows.unlabelled
            if not rows.texts:
                continue
            texts, truth = checked_texts(rows), classes.numbers(rows)
            answers = classifier.predict(texts)
            wrong = [*worst, *_mistakes(rows, texts, truth, answers, str(path))]
            worst = nlargest(mistakes, wrong, key=lambda mistake: mistake.probability)
            logits.append(answers.logits)
            truths.append(truth)
            progress.step(done)
        if not truths:
            raise UserError(f"{path}: has no rows{' with a label' if left_out else ''}")
        without = f", {left_out:,} without label left out" if left_out else ""
        progress.finish(f"{counted(sum(map(len, truths)), 'text')}{without}")
    found = measure(classifier.classes, np.concatenate(logits), np.concatenate(truths), worst)
    return replace(found, labels=classes.why)


def measure(
    names: Sequence[str],
    logits: Float[np.ndarray, "texts classes"],
    labels: Int[np.ndarray, "texts"],
    mistakes: list[Mistake],
) -> Evaluation:
    """Computes the scores of logits against labels, which are indices into the class names.

    Args:
        names: names of the classes.
        logits: class scores of each text.
        labels: index of each text's true class.
        mistakes: the mistakes to report.
    """
    found, texts = score(logits, labels), len(labels)
    low, high = wilson_interval(found.accuracy, texts)
    by_class = scores.by_class(labels, logits.argmax(axis=1), len(names))
    return Evaluation(
        texts=texts,
        accuracy=found.accuracy,
        low=low,
        high=high,
        macro_f1=found.macro_f1,
        loss=found.loss,
        by_class=dict(zip(names, by_class, strict=True)),
        confusion=found.confusion,
        calibration_error=_calibration_error(logits, labels),
        temperature=scores.temperature(logits, labels),
        calibration_error_mended=_mended(logits, labels),
        mistakes=mistakes,
    )


def _mended(logits: Float[np.ndarray, "texts classes"], labels: Int[np.ndarray, "texts"]) -> float | None:
    """Calibration error where each half of the texts is scaled with the temperature fitted on the other half."""
    if len(labels) < 2:
        return None
    halves = np.array_split(np.random.default_rng(0).permutation(len(labels)), 2)
    scaled = np.empty_like(logits, np.float64)
    for mine, other in (halves, halves[::-1]):
        scaled[mine] = logits[mine] / scores.temperature(logits[other], labels[other])
    return _calibration_error(scaled, labels)


def _calibration_error(logits: Float[np.ndarray, "texts classes"], labels: Int[np.ndarray, "texts"]) -> float:
    """Expected calibration error of the logits' probabilities."""
    return scores.calibration_error(scores.softmax(logits), labels, BINS)


def _mistakes(
    rows: Rows, texts: Sequence[Text_], truth: Int[np.ndarray, "texts"], answers: Answers, file: str
) -> Iterator[Mistake]:
    """Iterates over the misclassified texts among rows of a file, in the rows' order."""
    for place in np.flatnonzero(answers.numbers != truth).tolist():
        label, answer = answers.classes[truth[place]], answers.classes[answers.numbers[place]]
        probability = float(answers.probabilities[place].max())
        where = rows.at(place).removeprefix(f"{file} ")
        yield Mistake(where, label, answer, probability, shown(_one_line(texts[place]), 200))


def shown_evaluation(found: Evaluation) -> Group:
    """Renders an evaluation for the terminal. Markup in names and texts is not interpreted."""
    mended = found.calibration_error_mended
    cured = "" if mended is None else f"; {mended:.4f} by temperatures fitted on the other half of the texts"
    lines = [
        f"texts        {found.texts:,}  ({found.labels})" if found.labels else f"texts        {found.texts:,}",
        f"accuracy     {found.accuracy:.4f}  (95 % interval {found.low:.4f} to {found.high:.4f})",
        f"macro-F1     {found.macro_f1:.4f}",
        f"loss         {found.loss:.4f}",
        f"calibration  error {found.calibration_error:.4f}  ({BINS} bins{cured})",
        f"temperature  {found.temperature:.3f}  (divides the logits; above 1: the probabilities are too sure)",
    ]
    occurring = {name: one for name, one in found.by_class.items() if one.occurs}
    absent = [shown(name) for name in found.by_class if name not in occurring]
    parts: list[ConsoleRenderable] = [Text("\n".join(lines)), Text(), _classes_table(occurring)]
    if absent:
        parts += [Text(f"neither labels nor answers have: {listed(absent)}")]
    if found.mistakes:
        wrong = Table("probability", "answer", "label", "where", "text", box=None, pad_edge=False)
        for mistake in found.mistakes:
            cells = (Text(shown(cell, 80)) for cell in (mistake.answer, mistake.label, mistake.place, mistake.text))
            wrong.add_row(f"{mistake.probability:.4f}", *cells)
        parts += [Text("\nmost confident mistakes"), wrong]
    return Group(*parts)


def _classes_table(by_class: Mapping[str, ClassScores]) -> Table:
    """A table of the classes' scores; above `MOST_CLASSES`, of the classes with the lowest F1."""
    names, head = list(by_class), "class"
    if len(names) > MOST_CLASSES:
        names = sorted(names, key=lambda name: by_class[name].f1)[:MOST_CLASSES]
        head = f"the {MOST_CLASSES} worst of {counted(len(by_class), 'class')}"
    table = Table(head, "texts", "precision", "recall", "F1", box=None, pad_edge=False)
    for name in names:
        one = by_class[name]
        numbers = (f"{value:.4f}" for value in (one.precision, one.recall, one.f1))
        table.add_row(Text(shown(name)), f"{one.texts:,}", *numbers)
    return table


def _one_line(text: Text_) -> str:
    return text if isinstance(text, str) else " | ".join(text)
