"""The final table, for the terminal and for Markdown, and one CSV row a run."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flax_agnews.errors import printable
from flax_agnews.metrics.statistics import COSTS, by_strategy, costs, summary
from flax_agnews.report.files import Results
from flax_agnews.system.files import write_atomic
from flax_agnews.system.text import counted

HEADERS = ("strategy", "accuracy", "macro-F1", "trained parameters", "train time", "tokens/s")
NOT_KNOWN = "–"

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
    """The strategies, best mean test accuracy first: which one is best is what the table is asked.

    Equal ones stay in the experiment's order.
    """
    means = {name: numbers["test_accuracy"]["mean"] for name, numbers in summary(results["runs"]).items()}
    return sorted(means, key=lambda name: -means[name])


def seeds_text(results: Results) -> str:
    """`1 seed`, `3 seeds`, or `2 to 3 seeds` when the strategies differ."""
    counts = [len(group) for group in by_strategy(results["runs"]).values()]
    low, high = min(counts), max(counts)
    return f"{low} to {counted(high, 'seed')}" if low < high else counted(high, "seed")


def table_title(results: Results) -> str:
    """`Test accuracy (mean ± sd of 3 seeds)`, or `Test accuracy (1 seed)`."""
    repeated = any(numbers["n"] > 1 for numbers in summary(results["runs"]).values())
    return f"Test accuracy ({'mean ± sd of ' if repeated else ''}{seeds_text(results)})"


def final_rows(results: Results) -> list[tuple[str, ...]]:
    """The cells below `HEADERS`, one row a strategy, as plain text."""
    groups, numbers = by_strategy(results["runs"]), summary(results["runs"])
    names = ranked(results)
    firsts = [groups[name][0] for name in names]
    shares = [share_text(run["trainable_parameters"], run["total_parameters"]) for run in firsts]
    width = max(map(len, shares))
    return [
        (
            one_line(name),
            spread_text(numbers[name]["test_accuracy"]),
            f"{numbers[name]['test_macro_f1']['mean']:.3f}",
            f"{run['trainable_parameters']:,} {f'({share})':>{width + 2}}",
            seconds_text(costs(groups[name])["train_seconds"]),
            short_count(costs(groups[name])["tokens_per_second"]),
        )
        for name, run, share in zip(names, firsts, shares, strict=True)
    ]


def final_table(results: Results) -> Table:
    """The table that ends an experiment, for `rich`; best strategy first."""
    table = Table(title=table_title(results), title_style="bold", box=None, padding=(0, 1))
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if index < 2 else "right", no_wrap=index > 0, overflow="fold")
    for row in final_rows(results):
        # Text, not str: a strategy named [red] is a name and no markup.
        table.add_row(*(Text(cell) for cell in row))
    return table


def markdown_table(results: Results) -> str:
    """The same table in Markdown, names escaped."""
    return pipe_table(HEADERS, final_rows(results), left=2)


def pipe_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of plain text, which is escaped; columns after the first `left` are right-aligned."""
    rule = [":---" if index < left else "---:" for index in range(len(headers))]
    lines = [[escape(cell) for cell in headers], rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(results: Results, path: Path) -> Path:
    """One row a run: scores, the last and the best value of each curve, costs. What is not known is empty."""
    rows = [_flat(run) for run in results["runs"]]
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, fieldnames=list(dict.fromkeys(column for row in rows for column in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return write_atomic(path, stream.getvalue().encode())


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    row = {column: run.get(column) for column in _PLAIN_COLUMNS} | {"epochs": len(run["val_accuracy"])}
    for curve, best in _BEST.items():
        known = [value for value in run[curve] if value is not None]
        row[f"{curve}_last"] = run[curve][-1]
        row[f"{curve}_best"] = best(known) if known else None
    searched = {"rate_factor": run["rate_factor"]} if "rate_factor" in run else {}
    return row | searched | {cost: run["cost"].get(cost) for cost in COSTS}


def _cell(value: Any) -> Any:
    """A number as it is; a text so that no spreadsheet takes it for a formula."""
    if not isinstance(value, str):
        return value
    text = "\n".join(printable(line) for line in value.split("\n"))
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def one_line(text: str) -> str:
    """`text` with white space and control characters made single spaces: a name never breaks a table."""
    return " ".join(printable(text).split())


def shorten(text: str, most: int) -> str:
    """`text`, cut to `most` characters with an ellipsis at its end."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short_names(names: Sequence[Any], most: int = 24) -> list[str]:
    """Names of classes for a table: each on one line, long ones without their middle, all different."""
    whole = [one_line(str(name)) for name in names]
    head, tail = most // 2, most - most // 2 - 1
    short = [name if len(name) <= most else f"{name[:head]}…{name[-tail:]}" for name in whole]
    times = Counter(short)
    return [name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(short)]


def model_text(model: Mapping[str, Any]) -> str:
    """`gpt2, 12 x 768, 124 M parameters`; the size once, where the name has it."""
    name, size = shorten(one_line(model["name"]), 36), f"{model['layers']} x {model['width']}"
    parts = [name, *([] if size in name else [size]), f"{short_count(model['parameters'])} parameters"]
    return ", ".join(parts)


def escape(text: str) -> str:
    """`text` on one line, with everything that Markdown or HTML would read as markup made plain."""
    return re.sub(r"([\\`*_\[\]<>|#~&!$])", r"\\\1", one_line(text))


def spread_text(numbers: dict[str, float | None]) -> str:
    """`0.934 ± 0.003`, or `0.934` for one seed."""
    sd = "" if numbers["sd"] is None else f" ± {numbers['sd']:.3f}"
    return f"{numbers['mean']:.3f}{sd}"


def share_text(part: int, whole: int) -> str:
    """`100 %`, `45 %`, `0.3 %`, `0.015 %`; never rounded to all or to nothing."""
    percent = 100 * part / max(whole, 1)
    if 99.5 <= percent < 100:
        return ">99 %"
    if percent >= 9.95 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.095 else f"{percent:.2g} %"


def seconds_text(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `1 min 40 s`, `2 h 3 min`."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def short_count(count: float | None) -> str:
    """`950`, `21 k`, `1.2 M`, `3.4 G`."""
    if count is None:
        return NOT_KNOWN
    for limit, scale, unit in ((999.5, 1, ""), (999_500, 1e3, " k"), (999.5e6, 1e6, " M")):
        if count < limit:
            return f"{_short(count / scale) if unit else f'{count:.0f}'}{unit}"
    return f"{_short(count / 1e9)} G"


def bytes_text(count: float | None) -> str:
    """`950 B`, `812 MB`, `1.2 GB`; decimal units."""
    number, _, unit = short_count(count).partition(" ")
    return NOT_KNOWN if count is None else f"{number} {unit}B"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
