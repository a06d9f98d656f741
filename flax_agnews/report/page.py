"""Writes an experiment's report: results.csv, accuracy_curves.png and report.md, from results.json."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, listed, shown
from flax_agnews.report.classes import balance, classes_text, confusions
from flax_agnews.report.differences import differences
from flax_agnews.report.search import search
from flax_agnews.report.tables import (
    markdown_table,
    mean_accuracy,
    model_text,
    ranked,
    seeds_text,
    table_title,
    write_csv,
)
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.results import DataResult, ModelResult, PretrainResult, Results, RunResult, mean_cost
from flax_agnews.statistics.seeds import wilson_interval
from flax_agnews.system.files import expanded, write_atomic
from flax_agnews.system.model_names import BUILTIN
from flax_agnews.system.text import NOT_KNOWN, bytes_text, counted, escape, pipe_table, seconds_text, short_count

_FIGURE = "accuracy_curves.png"


def write_report(folder: str | Path) -> list[Path]:
    """Writes results.csv, accuracy_curves.png and report.md into an output folder, and returns their paths.

    Args:
        folder: output folder of an experiment, with its results.json.

    Raises:
        UserError: results.json is missing or damaged, or the folder cannot be written.
    """
    if not isinstance(folder, str | Path):
        raise UserError(f"write_report(folder={shown(repr(folder))}): must be the output folder of an experiment")
    folder = expanded(str(folder))
    results = read_results(folder)
    from flax_agnews.report import plots  # matplotlib is slow to import, here and below, and most commands draw nothing

    page = markdown_page(results)
    return [
        write_csv(results, folder / "results.csv"),
        *plots.write(results, folder / _FIGURE),
        write_atomic(folder / "report.md", page.encode()),
    ]


def markdown_page(results: Results) -> str:
    """The text of report.md."""
    sections = (
        _head(results),
        _odd(results),
        _compared(results),
        _accuracy(results),
        _curves(results),
        differences(results),
        confusions(results),
        search(results),
        _costs(results),
        _settings(results),
        _environment(results),
        _again(results),
    )
    return "\n\n".join(part for section in sections for part in section) + "\n"


def _head(results: Results) -> Iterator[str]:
    """Title, best strategy, and warnings about random weights and runs that learned nothing."""
    count, best = len(results.by_strategy), ranked(results)[0]
    mean = mean_accuracy(results, best)
    compared = counted(count, "strategy") + ("" if count == 1 else " compared")
    yield f"# {compared} on {escape(results.data.source)}"
    first = "" if count == 1 else "Best mean test accuracy: "
    yield f"{first}**{escape(best)}**, {_percent(mean)} ({counted(len(results.by_strategy[best]), 'seed')})."
    if results.model.name.startswith("random "):
        yield (
            "> **Random weights.** The body was not loaded from a trained GPT-2 but initialised at random: "
            "these accuracies say nothing about GPT-2."
        )
    if results.model.name.partition(",")[0] == BUILTIN:  # or `builtin, adapted`
        yield (
            "> **The builtin body.** It is small and has read nothing but generated stories: "
            "these accuracies say nothing about GPT-2."
        )
    level = results.data.majority_accuracy
    idle = [run for run in results.runs if run.test_accuracy <= level]
    if idle:
        names = listed(f"{escape(run.strategy)} seed {run.seed}" for run in idle)
        yield (
            f"> **No better than the majority class** ({_percent(level)}): {names}. "
            "These runs learned nothing that the test shows; their other figures mean little."
        )


def _odd(results: Results) -> Iterator[str]:
    """Warnings about runs that diverged, and about skipped updates."""
    if results.diverged:
        yield (
            f"> **Stopped where numbers were not finite**: {listed(escape(run) for run in results.diverged)}. "
            "Figures are those of the runs that went well, which may flatter their strategies."
        )
    if skipped := [run for run in results.runs if run.skipped_updates]:
        names = listed(f"{escape(run.strategy)} seed {run.seed} ({run.skipped_updates:,})" for run in skipped)
        yield f"> **Updates that were not finite** were left out: {names}."


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
        f"Always answering the most frequent class gives {_percent(data.majority_accuracy)}.",
        f"Model: {escape(model_text(model))}, {escape(model.dtype)}.{_base(model)}",
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


def _accuracy(results: Results) -> Iterator[str]:
    """The section with the final table, the accuracy's interval, and the best epochs."""
    yield f"## {table_title(results)}"
    yield markdown_table(results)
    best, texts = ranked(results)[0], results.data.test
    mean = mean_accuracy(results, best)
    low, high = wilson_interval(mean, texts)
    order = "Best first. " if len(ranked(results)) > 1 else ""
    yield (
        f"{order}Each run was tested once, with the weights of its best epoch on validation. "
        f"The test set is a sample too: an accuracy of {_percent(mean)} on {counted(texts, 'text')} has "
        f"the 95 % interval {100 * low:.1f} to {100 * high:.1f} % (Wilson), however many seeds there are."
    )
    groups = results.by_strategy
    epochs = {name: [run.best_epoch for run in runs] for name, runs in groups.items()}
    rows = [(name, ", ".join(_plain(epoch) for epoch in epochs[name]), _ran(groups[name])) for name in groups]
    yield "Epoch of the best validation accuracy, by seed:"
    yield pipe_table(("strategy", "best epoch", "epochs run"), rows)
    if early := sum(bool(run.stopped_early) for run in results.runs):
        ended = f"{early:,} of {counted(len(results.runs), 'run')} ended early"
        yield f"{ended}, when the validation accuracy got no better (`train.early_stopping`)."


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


def _costs(results: Results) -> Iterator[str]:
    costs = {name: mean_cost(results.by_strategy[name]) for name in ranked(results)}
    rows = [
        (
            name,
            seconds_text(cost.train_seconds),
            seconds_text(cost.compile_seconds),
            seconds_text(cost.cache_seconds),
            seconds_text(cost.pretrain_seconds),
            short_count(cost.tokens_per_second),
            bytes_text(cost.peak_memory_bytes),
        )
        for name, cost in costs.items()
    ]
    yield "## What it cost"
    yield pipe_table(("strategy", "training", "compiling", "caching", "pre-training", "tokens/s", "peak memory"), rows)
    shared = " Pre-training was done once and is shared by all runs." if results.pretrain else ""
    yield f"Means of a run. {NOT_KNOWN}: not measured in every run.{shared}"


def _settings(results: Results) -> Iterator[str]:
    rows = [(name, _plain(value)) for name, value in _flat(results.settings)]
    if rows:
        yield "## Settings"
        yield pipe_table(("setting", "value"), rows, left=2)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flattens nested settings: (name with dots, value)."""
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _environment(results: Results) -> Iterator[str]:
    version = {"flax_agnews": results.flax_agnews}
    rows = [(name, _plain(value)) for name, value in _flat({**version, **results.environment})]
    yield "## Environment"
    yield pipe_table(("what", "value"), rows, left=2)


def _again(results: Results) -> Iterator[str]:
    """The section on how to repeat the experiment."""
    groups = results.by_strategy
    own = [name for name in groups if any(run.custom for run in groups[name])]
    registered = [name for name in groups if name not in own]
    files = "`results.csv` has a row for every run, `results.json` everything."
    yield "## How to repeat it"
    if own:
        verb, which = ("is a strategy", "it") if len(own) == 1 else ("are strategies", "them")
        yield (
            f"{listed(map(escape, own))} {verb} of a script that uses the library: run that script again, since the "
            f"command doesn't know {which}. Finished runs are not repeated in the same output folder."
        )
    if not registered:
        yield f"`config.yaml` in this folder has the settings. {files}"
        return
    chosen = f" --strategy {','.join(registered)}" if own else ""
    yield f"```\npython -m flax_agnews.main --config config.yaml{chosen}\n```"
    yield (
        "`config.yaml` lies in this folder; the paths in it are those of the machine that wrote it. "
        f"Finished runs are not repeated; `--output OTHER` starts afresh elsewhere. {files}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plain(value: Any) -> str:
    if value is None:
        return NOT_KNOWN
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
