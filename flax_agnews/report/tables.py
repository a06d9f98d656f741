"""The final table, for the terminal and for Markdown, and results.csv with a row for each run."""

import csv
import io
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flax_agnews.errors import printable
from flax_agnews.report.answer import Answer, Entry
from flax_agnews.runs.results import COSTS, Mean, ModelResult, Results, RunResult, mean_cost
from flax_agnews.statistics.intervals import Interval
from flax_agnews.system.files import write_atomic
from flax_agnews.system.text import (
    NOT_KNOWN,
    counted,
    one_line,
    pipe_table,
    seconds_text,
    share_text,
    short_count,
    shorten,
)

HEADERS = ("rank", "strategy", "accuracy", "interval", "macro-F1", "trained", "time")

_PLAIN_COLUMNS = (
    "strategy",
    "seed",
    "test_accuracy",
    "test_macro_f1",
    "test_loss",
    "best_epoch",
    "trainable_parameters",
    "total_parameters",
)
_BEST = {"train_accuracy": max, "val_accuracy": max, "train_loss": min, "val_loss": min}


def seeds_text(results: Results) -> str:
    """Number of seeds of each strategy: `1 seed`, `3 seeds`, or `2 to 3 seeds` where strategies differ."""
    counts = [len(group) for group in results.by_strategy.values()]
    low, high = min(counts), max(counts)
    return f"{low} to {counted(high, 'seed')}" if low < high else counted(high, "seed")


def table_title(answer: Answer) -> str:
    """Title of the final table: what the numbers in it are, and of how many seeds."""
    seeds = seeds_text(answer.results)
    if any(entry.accuracy for entry in answer.strategies):
        return f"Test accuracy of {seeds}, with 95 % intervals"
    repeated = any(len(entry.runs) > 1 for entry in answer.strategies)
    return f"Test accuracy ({'mean ± sd of ' if repeated else ''}{seeds})"


def final_rows(answer: Answer) -> list[tuple[str, ...]]:
    """The rows of the final table, by rank, with a plain text for each of `HEADERS`; references are among them."""
    costs = [_trained_and_time(entry) for entry in answer.entries]
    width = max(len(share) for share, _ in costs)
    return [
        (
            rank_text(answer, entry),
            one_line(entry.name),
            _accuracy(answer, entry),
            interval_text(entry.accuracy),
            f"{_macro_f1(answer, entry):.3f}",
            f"{share:>{width}}",
            time,
        )
        for entry, (share, time) in zip(answer.entries, costs, strict=True)
    ]


def rank_text(answer: Answer, entry: Entry) -> str:
    """An entry's rank, `2`; `1=` where others share it, a dash where it has none."""
    if entry.rank is None:
        return NOT_KNOWN
    return f"{entry.rank}{'=' if [other.rank for other in answer.entries].count(entry.rank) > 1 else ''}"


def interval_text(found: Interval | None) -> str:
    """The interval of a share, `0.894-0.930`; a dash where there is none."""
    if found is None or found.low is None or found.high is None:
        return NOT_KNOWN
    return f"{found.low:.3f}–{found.high:.3f}"


def _accuracy(answer: Answer, entry: Entry) -> str:
    """Mean accuracy; with its sd over the seeds where there is no interval."""
    return f"{entry.mean:.3f}" if entry.accuracy else spread_text(answer.results.summary[entry.name].test_accuracy)


def _macro_f1(answer: Answer, entry: Entry) -> float:
    """Mean macro-F1 over the runs."""
    if entry.macro_f1:
        return entry.macro_f1.mean
    mean = answer.results.summary[entry.name].test_macro_f1.mean
    assert mean is not None  # every finished run has one
    return mean


def _trained_and_time(entry: Entry) -> tuple[str, str]:
    """Number of trained parameters with their share of the model, and mean training time of a run."""
    if entry.reference:
        return short_count(entry.reference.parameters), seconds_text(entry.reference.seconds)
    run, cost = entry.runs[0], mean_cost(list(entry.runs))
    share = share_text(run.trainable_parameters, run.total_parameters)
    return f"{short_count(run.trainable_parameters)} {f'({share})':>8}", seconds_text(cost.train_seconds)


def final_table(answer: Answer) -> Table:
    """The final table for the terminal, drawn by `rich`."""
    table = Table(title=table_title(answer), title_style="bold", box=None, padding=(0, 1))
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if index < 4 else "right", no_wrap=index != 1, overflow="fold")
    for row in final_rows(answer):
        # Text, not str, so that a strategy named [red] isn't read as markup.
        table.add_row(*(Text(cell) for cell in row))
    return table


def markdown_table(answer: Answer) -> str:
    """The final table in Markdown, with names escaped."""
    return pipe_table(HEADERS, final_rows(answer), left=4)


def write_csv(results: Results, path: Path) -> Path:
    """Writes results.csv, with the `run_row` of each run; unknown values are empty."""
    rows = [run_row(run) for run in results.runs]
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, fieldnames=list(dict.fromkeys(column for row in rows for column in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return write_atomic(path, stream.getvalue().encode())


def run_row(run: RunResult) -> dict[str, Any]:
    """A run's row, column -> value: scores, last and best value of each curve, costs."""
    row = {column: getattr(run, column) for column in _PLAIN_COLUMNS} | {"epochs": run.epochs}
    for curve, best in _BEST.items():
        values = getattr(run, curve)
        known = [value for value in values if value is not None]
        row[f"{curve}_last"] = values[-1]
        row[f"{curve}_best"] = best(known) if known else None
    searched = {} if run.rate_factor is None else {"rate_factor": run.rate_factor}
    return row | searched | {cost: getattr(run.cost, cost) for cost in COSTS}


def _cell(value: Any) -> Any:
    """The value of a CSV cell; a text that a spreadsheet would take for a formula gets a quote in front."""
    if not isinstance(value, str):
        return value
    text = "\n".join(printable(line) for line in value.split("\n"))
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def model_text(model: ModelResult) -> str:
    """Name and size of the model, `gpt2, 12 x 768, 124 M parameters`; `12 x 768` only where the name lacks it."""
    name, size = shorten(one_line(model.name), 36), f"{model.layers} x {model.width}"
    parts = [name, *([] if size in name else [size]), f"{short_count(model.parameters)} parameters"]
    return ", ".join(parts)


def spread_text(numbers: Mean) -> str:
    """A mean with its standard deviation, `0.934 ± 0.003`; `0.934` for one seed."""
    sd = "" if numbers.sd is None else f" ± {numbers.sd:.3f}"
    return f"{numbers.mean:.3f}{sd}"
