"""The final table, for the terminal and for Markdown, and results.csv with a row for each run."""

import csv
import io
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flax_agnews.errors import printable
from flax_agnews.runs.results import COSTS, Mean, ModelResult, Results, RunResult, mean_cost
from flax_agnews.system.files import write_atomic
from flax_agnews.system.text import counted, one_line, pipe_table, seconds_text, share_text, short_count, shorten

HEADERS = ("strategy", "accuracy", "macro-F1", "trained parameters", "train time", "tokens/s")

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


def ranked(results: Results) -> list[str]:
    """The strategies sorted by mean test accuracy, the best first; equal ones stay in the experiment's order."""
    return sorted(results.summary, key=lambda name: -mean_accuracy(results, name))


def mean_accuracy(results: Results, strategy: str) -> float:
    """The strategy's mean test accuracy; it isn't None, since every finished run has a test accuracy."""
    mean = results.summary[strategy].test_accuracy.mean
    assert mean is not None
    return mean


def seeds_text(results: Results) -> str:
    """Number of seeds of each strategy: `1 seed`, `3 seeds`, or `2 to 3 seeds` where strategies differ."""
    counts = [len(group) for group in results.by_strategy.values()]
    low, high = min(counts), max(counts)
    return f"{low} to {counted(high, 'seed')}" if low < high else counted(high, "seed")


def table_title(results: Results) -> str:
    """Title of the final table: `Test accuracy (mean ± sd of 3 seeds)`, or `Test accuracy (1 seed)`."""
    repeated = any(numbers.n > 1 for numbers in results.summary.values())
    return f"Test accuracy ({'mean ± sd of ' if repeated else ''}{seeds_text(results)})"


def final_rows(results: Results) -> list[tuple[str, ...]]:
    """The rows of the final table, best strategy first, with a plain text for each of `HEADERS`."""
    groups, numbers, names = results.by_strategy, results.summary, ranked(results)
    costs = {name: mean_cost(groups[name]) for name in names}
    firsts = [groups[name][0] for name in names]
    shares = [share_text(run.trainable_parameters, run.total_parameters) for run in firsts]
    width = max(map(len, shares))
    return [
        (
            one_line(name),
            spread_text(numbers[name].test_accuracy),
            f"{numbers[name].test_macro_f1.mean:.3f}",
            f"{run.trainable_parameters:,} {f'({share})':>{width + 2}}",
            seconds_text(costs[name].train_seconds),
            short_count(costs[name].tokens_per_second),
        )
        for name, run, share in zip(names, firsts, shares, strict=True)
    ]


def final_table(results: Results) -> Table:
    """The final table for the terminal, drawn by `rich`."""
    table = Table(title=table_title(results), title_style="bold", box=None, padding=(0, 1))
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if index < 2 else "right", no_wrap=index > 0, overflow="fold")
    for row in final_rows(results):
        # Text, not str, so that a strategy named [red] isn't read as markup.
        table.add_row(*(Text(cell) for cell in row))
    return table


def markdown_table(results: Results) -> str:
    """The final table in Markdown, with names escaped."""
    return pipe_table(HEADERS, final_rows(results), left=2)


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
