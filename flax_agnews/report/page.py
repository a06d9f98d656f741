"""Writes an experiment's report, from its results.json and predictions; the Markdown page is made here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flax_agnews.errors import UserError, listed, shown
from flax_agnews.report.answer import Answer, read_answer
from flax_agnews.report.cautions import cautions
from flax_agnews.report.classes import balance, classes_text, confusions
from flax_agnews.report.differences import differences
from flax_agnews.report.evidence import TITLES
from flax_agnews.report.html.content import DataCheck
from flax_agnews.report.html.from_answer import page_content, write_content
from flax_agnews.report.reproduction import again, costs, environment, plain, settings
from flax_agnews.report.search import search
from flax_agnews.report.sentences import notes, percent, sentences
from flax_agnews.report.tables import markdown_table, model_text, seeds_text, table_title, write_csv
from flax_agnews.runs.references import PROBE, TFIDF
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.results import DataResult, ModelResult, PretrainResult, Results, RunResult
from flax_agnews.system.files import expanded, write_atomic
from flax_agnews.system.text import NOT_KNOWN, counted, escape, pipe_table, type_text

_FIGURE = "accuracy_curves.png"


def write_report(folder: str | Path) -> list[Path]:
    """Writes report.html, report.md, results.csv and accuracy_curves.png and .svg into an output folder.

    Returns their paths, the page first.

    Args:
        folder: output folder of an experiment, with its results.json.

    Raises:
        UserError: results.json is missing or damaged, or the folder cannot be written.
    """
    if not isinstance(folder, str | Path):
        raise UserError(f"write_report(folder={shown(repr(folder))}): must be the output folder of an experiment")
    folder = expanded(str(folder))
    return write_answer(read_answer(folder, read_results(folder)), folder)


def write_answer(answer: Answer, folder: Path) -> list[Path]:
    """Writes the report of an output folder whose answer has been read; otherwise as `write_report`."""
    from flax_agnews.report import plots  # matplotlib is slow to import, here and below, and most commands draw nothing

    content = page_content(answer, folder)
    return [
        write_content(content, folder),
        write_atomic(folder / "report.md", markdown_page(answer, content.data_checks).encode()),
        write_csv(answer.results, folder / "results.csv"),
        *plots.write(answer.results, folder / _FIGURE),
    ]


def markdown_page(answer: Answer, checks: Sequence[DataCheck] = ()) -> str:
    """The text of report.md.

    Args:
        answer: what the runs say.
        checks: the data checks of the page; those that found nothing are left out.
    """
    results = answer.results
    sections = (
        _head(answer),
        _accuracy(answer),
        _compared(results),
        _curves(results),
        differences(answer),
        confusions(answer),
        search(answer),
        _checks(checks),
        costs(answer),
        settings(results),
        environment(results),
        again(results),
    )
    return "\n\n".join(part for section in sections for part in section) + "\n"


def _head(answer: Answer) -> Iterator[str]:
    """Title, the answer in two sentences, and what makes scores mean little."""
    results, count = answer.results, len(answer.strategies)
    compared = counted(count, "strategy") + ("" if count == 1 else " compared")
    yield f"# {compared} on {escape(results.data.source)}"
    first, second = sentences(answer)
    yield f"**{escape(first)}** {escape(second)}"
    for what, rest in cautions(results):
        yield f"> **{escape(what)}** {escape(rest)}"


def _compared(results: Results) -> Iterator[str]:
    """The section on strategies, data and model."""
    data, model = results.data, results.model
    yield "## What was compared"
    names = ", ".join(escape(name) for name in results.by_strategy)
    lines = [
        f"Strategies: {names}; {seeds_text(results)} each.",
        f"Data: {escape(data.source)}; {data.train:,} training, {data.validation:,} validation and "
        f"{counted(data.test, 'test text')} in {classes_text(data)}.{_lengths(data)}",
        *([f"How it was read: {escape('; '.join(data.notes))}."] if data.notes else []),
        *balance(results),
        f"Always answering the most frequent class gives {percent(data.majority_accuracy)}.",
        f"Model: {escape(model_text(model))}, {escape(type_text(model.dtype, model.products))}.{_base(model)}",
    ]
    if results.pretrain:
        lines.append(_pretraining(results.pretrain))
    yield "\n".join(f"- {line}" for line in lines)


def _pretraining(pretrain: PretrainResult) -> str:
    epochs = counted(pretrain.epochs, "epoch")
    losses = " → ".join(f"{loss:.2f}" for loss in pretrain.loss if loss is not None)
    return (
        f"Before the comparison, once for all strategies: {epochs} of language modelling on the "
        f"training texts{f', loss {losses}' if losses else ''}."
    )


def _lengths(data: DataResult) -> str:
    if data.tokens_per_text is None:
        return ""
    cut = f", {data.truncated:,} cut at the length limit" if data.truncated else ""
    usual = counted(round(data.tokens_per_text), "token")
    return f" {usual} a text, the longest {NOT_KNOWN if data.longest is None else data.longest}{cut}."


def _base(model: ModelResult) -> str:
    return f" Base weights: {escape(model.base)}." if model.base else ""


def _accuracy(answer: Answer) -> Iterator[str]:
    """The section with the final table, what its columns are, notes on what the runs can't carry, and best epochs."""
    results = answer.results
    yield f"## {table_title(answer)}"
    yield markdown_table(answer)
    yield "Each run was tested once, with the weights of its best epoch on validation." + _columns(answer)
    if said := notes(answer):
        yield "\n".join(f"- {escape(note)}" for note in said)
    groups = results.by_strategy
    epochs = {name: [run.best_epoch for run in runs] for name, runs in groups.items()}
    rows = [(name, ", ".join(plain(epoch) for epoch in epochs[name]), _ran(groups[name])) for name in groups]
    yield "Epoch of the best validation accuracy, by seed:"
    yield pipe_table(("strategy", "best epoch", "epochs run"), rows)
    if early := sum(bool(run.stopped_early) for run in results.runs):
        ended = f"{early:,} of {counted(len(results.runs), 'run')} ended early"
        yield f"{ended}, when the validation accuracy got no better (`train.early_stopping`)."


def _columns(answer: Answer) -> str:
    """What ranks and intervals are, where there are any; and the references."""
    said = ""
    if any(entry.accuracy for entry in answer.strategies):
        said += (
            " The interval is for other seeds and other test texts at once. A rank is 1 + the number of entries that "
            "are shown to be better, so those that can't be told apart share one (`=`)."
        )
    if any(entry.name == TITLES[TFIDF] for entry in answer.references):
        said += (
            " TF-IDF is a logistic regression on the words and pairs of words of the same training texts, its "
            "regularisation chosen on validation."
        )
    if any(entry.name == TITLES[PROBE] for entry in answer.references):
        said += " The linear probe is one on what the frozen body makes of each text."
    return said


def _checks(checks: Sequence[DataCheck]) -> Iterator[str]:
    """The section on texts that flatter a score, or harm it, and the accuracies without those of the test split."""
    found = [check for check in checks if check.count]
    if not found:
        return
    yield "## Texts that make a score look better or worse"
    yield "\n".join(f"- {_check(check)}" for check in found)


def _check(check: DataCheck) -> str:
    without = listed(f"{escape(name)} {percent(share)}" for name, share in check.accuracy_without.items())
    said = f"{escape(check.title)}: {check.count:,} of {check.of:,}."
    return f"{said} Accuracy without them: {without}." if without else said


def _ran(runs: list[RunResult]) -> str:
    """Number of epochs of a strategy's runs: one number where all are equal, else one for each seed."""
    counts = [run.epochs for run in runs]
    return ", ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))


def _curves(results: Results) -> Iterator[str]:
    """The picture and its caption."""
    from flax_agnews.report import plots

    repeated = any(len(runs) > 1 for runs in results.by_strategy.values())
    band = f"; bands are ± one standard deviation of the validation accuracy over {seeds_text(results)}"
    drawn = f"Accuracy by epoch. Solid: validation; dashed: training{band if repeated else ''}."
    what = "Training and validation"
    if plots.crowded(results):
        what = "Validation"
        drawn = f"{what} accuracy by epoch{f', means of {seeds_text(results)}' if repeated else ''}."
    yield f"![{what} accuracy by epoch, a line for every strategy]({_FIGURE})"
    groups = results.by_strategy.values()
    uneven = any(len({run.epochs for run in runs}) > 1 for runs in groups)
    ended = " A run that ended before others of its strategy counts in later epochs with its last." if uneven else ""
    yield f"{drawn}{ended} The figure at each name is the validation accuracy after the last epoch."
