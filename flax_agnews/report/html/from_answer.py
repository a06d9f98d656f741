"""The page `report.html` of an output folder: fills `content.PageContent` from an `Answer`, and writes the page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews import __version__
from flax_agnews.data.sources import Texts
from flax_agnews.errors import UserError
from flax_agnews.report import answer as answers
from flax_agnews.report.cautions import cautions
from flax_agnews.report.html.calibration import calibration
from flax_agnews.report.html.class_scores import class_scores
from flax_agnews.report.html.content import (
    Costs,
    Curve,
    Difference,
    Entry,
    Estimate,
    PageContent,
    RateSearch,
    RateTrial,
)
from flax_agnews.report.html.found_texts import data_checks
from flax_agnews.report.html.wrong_answers import confusions, hard_texts, is_majority, opened
from flax_agnews.report.reproduction import commands
from flax_agnews.report.sentences import notes, sentences
from flax_agnews.report.tables import model_text, seeds_text
from flax_agnews.report.unfinished import own_runs
from flax_agnews.runs.checks_file import Check, read_checked
from flax_agnews.runs.results import Mean, Results, RunResult, mean_cost
from flax_agnews.runs.texts_file import TEXTS, read_texts
from flax_agnews.statistics.intervals import Interval
from flax_agnews.system.files import write_atomic
from flax_agnews.system.text import counted, one_line, shorten

PAGE = "report.html"


def write_page(answer: answers.Answer, folder: Path, place: Path | None = None, with_texts: bool = True) -> Path:
    """Writes the page of an output folder, and returns its path.

    Args:
        answer: what the runs say.
        folder: the output folder.
        place: the folder to write report.html into; by default the output folder.
        with_texts: whether texts of the data may be in the page.
    """
    return write_content(page_content(answer, folder, with_texts), place or folder)


def write_content(content: PageContent, folder: Path) -> Path:
    """Writes a page's content as report.html into a folder, and returns its path."""
    from flax_agnews.report.html.page import html_page  # the charting library is slow to import

    return write_atomic(folder / PAGE, html_page(content).encode())


def page_content(answer: answers.Answer, folder: Path, with_texts: bool = True) -> PageContent:
    """What the page shows of an output folder; what an older folder lacks is left out."""
    results = answer.results
    texts, why_not = _texts(answer, folder) if with_texts else (None, "This copy of the page was made without texts.")
    checked, damage = _checked(folder)
    try:
        planned = own_runs(folder)
    except UserError:  # which is among the notes
        planned = {}
    test = texts["test"] if texts else None
    all_wrong, disputed = hard_texts(answer)
    return PageContent(
        title=_title(results),
        facts=_facts(results),
        sentences=sentences(answer),
        notes=[*notes(answer), *(" ".join(caution) for caution in cautions(results)), *damage],
        classes=[one_line(str(name)) for name in results.data.classes],
        test_texts=results.data.test,
        entries=[_entry(entry, results, planned) for entry in answer.entries],
        curves=[_curve(run) for run in results.runs],
        differences=list(_differences(answer)),
        confusions=confusions(answer, with_texts=test is not None),
        texts=opened(answer, test, [*all_wrong, *disputed]) if test else None,
        texts_note=why_not,
        all_wrong=all_wrong,
        disputed=disputed,
        calibration=calibration(answer),
        search=list(_search(results)),
        class_scores=class_scores(answer),
        data_checks=data_checks(answer, checked, texts),
        settings=_settings(answer),
        environment={"flax_agnews": results.flax_agnews, **results.environment},
        commands=commands(results),
        made=f"flax_agnews {__version__}",
    )


def _texts(answer: answers.Answer, folder: Path) -> tuple[dict[str, Texts] | None, str]:
    """The kept texts that the predictions are of; None and the reason where there are none."""
    evidence = answer.evidence
    try:
        found = read_texts(folder)
    except UserError as error:
        return None, f"{error}."
    if found is None:
        return None, "No texts are kept in the output folder, so that none can be opened."
    for name in evidence.names:
        for split, texts in found.items():
            if texts.labels.tolist() != evidence.split(name, split).labels.tolist():
                return None, f"{folder / TEXTS}: has other texts than the predictions, so that none can be opened."
    return found, ""


def _checked(folder: Path) -> tuple[Mapping[Check, np.ndarray], list[str]]:
    """The texts that data checks are about, by check; and a note where their file is damaged."""
    try:
        return read_checked(folder) or {}, []
    except UserError as error:
        return {}, [f"{error}."]


def _title(results: Results) -> str:
    count = len(results.by_strategy)
    compared = counted(count, "strategy") + ("" if count == 1 else " compared")
    return f"{compared} on {shorten(one_line(results.data.source), 60)}"


def _facts(results: Results) -> list[str]:
    data = results.data
    splits = f"{data.train:,} training, {data.validation:,} validation, {counted(data.test, 'test text')}"
    return [splits, counted(len(data.classes), "class"), model_text(results.model), f"{seeds_text(results)} each"]


def _entry(entry: answers.Entry, results: Results, planned: Mapping[str, Sequence[int]]) -> Entry:
    scores: dict[str, Any] = {"accuracy": _estimate(entry.accuracy) or Estimate(entry.mean)}
    if entry.runs:
        summary = results.summary[entry.name]
        scores["f1"] = _estimate(entry.macro_f1) or _point(summary.test_macro_f1)
        scores["loss"] = _estimate(entry.loss) or _point(summary.test_loss)
    else:
        scores |= {"f1": _estimate(entry.macro_f1), "loss": _estimate(entry.loss)}
    return Entry(
        name=entry.name,
        kind="strategy" if entry.reference is None else "reference",
        rank=entry.rank,
        seeds=len(entry.runs) or 1,
        costs=_costs(entry),
        note=_note(entry, planned),
        **scores,
    )


def _estimate(found: Interval | None) -> Estimate | None:
    return None if found is None else Estimate(found.mean, found.low, found.high)


def _point(mean: Mean) -> Estimate | None:
    """A mean without predictions: its interval for the seeds alone would be read as one for the texts as well."""
    return None if mean.mean is None else Estimate(mean.mean)


def _costs(entry: answers.Entry) -> Costs:
    if entry.reference:
        if is_majority(entry):
            return Costs()  # it trains nothing, and would only stretch the pictures
        return Costs(trained=entry.reference.parameters, seconds=entry.reference.seconds)
    cost = mean_cost(entry.runs)
    return Costs(
        trained=entry.runs[0].trainable_parameters,
        seconds=cost.train_seconds,
        tokens=_tokens(entry.runs) if cost.tokens is None else cost.tokens,
        tokens_per_second=cost.tokens_per_second,
        seconds_to_95=cost.seconds_to_95,
        compile_seconds=cost.compile_seconds,
        cache_seconds=cost.cache_seconds,
        peak_bytes=cost.peak_memory_bytes,
        optimizer_bytes=cost.optimizer_bytes,
        flop=cost.flop,
        kept_bytes=cost.kept_bytes,
    )


def _tokens(runs: Sequence[RunResult]) -> float | None:
    """Mean number of tokens, of runs whose files don't have it: speed is tokens divided by seconds."""
    pairs = [(run.cost.tokens_per_second, run.cost.train_seconds) for run in runs]
    return Mean.of(None if speed is None or seconds is None else speed * seconds for speed, seconds in pairs).mean


def _note(entry: answers.Entry, planned: Mapping[str, Sequence[int]]) -> str:
    """What a reader must know of this row: runs that are missing."""
    seeds = planned.get(entry.name, ())
    missing = len({*seeds} - {run.seed for run in entry.runs})
    if not entry.runs or not missing:
        return ""
    return f"{missing} of {counted(len(seeds), 'seed')} {'is' if missing == 1 else 'are'} unfinished."


def _curve(run: RunResult) -> Curve:
    return Curve(
        strategy=run.strategy,
        seed=run.seed,
        train_loss=run.train_loss,
        train_accuracy=run.train_accuracy,
        validation_loss=run.val_loss,
        validation_accuracy=run.val_accuracy,
        validation_f1=run.val_macro_f1 or (),
    )


def _differences(answer: answers.Answer) -> Iterator[Difference]:
    for one in answer.differences:
        if one.mean is not None:  # without a common seed there is none
            yield Difference(one.a, one.b, Estimate(one.mean, one.low, one.high), one.p_holm)


def _search(results: Results) -> Iterator[RateSearch]:
    """The searches, with each factor's longest trial: it is the last one."""
    for name, found in (results.search or {}).items():
        longest = {trial.factor: trial.val_accuracy for trial in found.trials}
        trials = [RateTrial(factor, longest[factor]) for factor in sorted(longest)]
        rates = ", ".join(f"{rate:.3g}" for rate in dict.fromkeys(found.rates))
        if name in results.by_strategy:
            yield RateSearch(name, trials, found.factor, rates, found.edge)


def _settings(answer: answers.Answer) -> dict[str, Any]:
    """Settings of training, strategies and references, and which data and model they are of."""
    results = answer.results
    data, model = results.data, results.model
    strategies = {name: runs[0].settings for name, runs in results.by_strategy.items() if runs[0].settings}
    references = {entry.name: entry.reference.settings for entry in answer.references if entry.reference}
    parts = {
        "training": results.settings,
        "strategies": strategies,
        "references": {name: settings for name, settings in references.items() if settings},
        "data": {name: getattr(data, name) for name in ("source", "notes", "truncated", "hash")},
        "model": {name: getattr(model, name) for name in ("name", "dtype", "precision", "products", "base", "start")},
    }
    known = {part: {name: value for name, value in of.items() if value is not None} for part, of in parts.items()}
    return {part: of for part, of in known.items() if of}
