"""The leaderboard: its columns, its rows as texts and sort keys, intervals to draw, and the Pareto fronts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flax_agnews.report.html.content import Entry, Estimate
from flax_agnews.report.html.marks import Look
from flax_agnews.system.text import NOT_KNOWN, bytes_text, seconds_text, short_count

FRONT_COSTS = {"trained": "numbers that train", "seconds": "seconds to train", "tokens": "tokens trained on"}
"""Costs that accuracy is drawn against -> what they are called."""


@dataclass(frozen=True)
class Column:
    """A column of costs: field of `Costs`, heading, explanation, and how its numbers are written."""

    key: str
    title: str
    hint: str
    text: Callable[[float | None], str]
    more: bool = False  # shown only with "all costs"


COST_COLUMNS = (
    Column("trained", "Trained", "Numbers that train", short_count),
    Column("seconds", "Train time", "Training, without compiling and filling of caches", seconds_text),
    Column("peak_bytes", "Peak memory", "Largest memory during training", bytes_text),
    Column("kept_bytes", "To keep", "Size of what must be kept for each task", bytes_text),
    Column("tokens_per_second", "Tokens/s", "Real tokens per second of training", short_count),
    Column("seconds_to_95", "To 95 %", "Time to 95 % of the final validation score", seconds_text, True),
    Column("compile_seconds", "Compile", "Time to compile", seconds_text, True),
    Column("cache_seconds", "Cache", "Time to fill caches", seconds_text, True),
    Column("optimizer_bytes", "Optimizer", "Memory of the optimizer's state", bytes_text, True),
    Column("tokens", "Tokens", "Real tokens trained on, all epochs", short_count, True),
    Column("flop", "FLOP", "Floating-point operations of the training", lambda n: power_text(n), True),
)


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number that it is sorted by (None goes last)."""

    text: str
    sort: float | None
    small: str = ""
    more: bool = False


@dataclass(frozen=True)
class Bar:
    """An interval in a drawing that is 100 wide; `outside` is "<" or ">" where the value is left or right of it."""

    value: float
    low: float
    high: float
    outside: str = ""


@dataclass(frozen=True)
class Row:
    """A row: entry, look, its rank's text, the drawn accuracy, cells of scores and costs, and fronts that it is on."""

    entry: Entry
    look: Look
    rank: str
    bar: Bar
    cells: Sequence[Cell]
    fronts: str


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign: `93.4`."""
    return NOT_KNOWN if share is None else f"{100 * share:.{digits}f}"


def power_text(number: float | None) -> str:
    """A large number with its power of ten: `3.1 · 10¹⁵`."""
    if number is None:
        return NOT_KNOWN
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def interval_text(estimate: Estimate | None, text: Callable[[float], str]) -> str:
    """The interval's ends, `92.8 to 94.0`; empty where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{text(estimate.low)} to {text(estimate.high)}"


def front(points: Mapping[str, tuple[float | None, float]]) -> set[str]:
    """The Pareto front: those that no other beats in one of cost and score without losing in the other.

    Args:
        points: name -> cost (None is left out) and score.
    """
    known = {name: (cost, score) for name, (cost, score) in points.items() if cost is not None}
    best, found = float("-inf"), set()
    for cost, score in sorted({(cost, -score) for cost, score in known.values()}):
        if -score > best:
            best = -score
            found |= {name for name, point in known.items() if point == (cost, -score)}
    return found


def fronts(entries: Sequence[Entry]) -> dict[str, set[str]]:
    """For each of `FRONT_COSTS`, the entries on the front of accuracy against it."""
    return {
        cost: front({entry.name: (getattr(entry.costs, cost), entry.accuracy.value) for entry in entries})
        for cost in FRONT_COSTS
    }


def known_front_costs(entries: Sequence[Entry]) -> dict[str, str]:
    """Those of `FRONT_COSTS` that some entry has; zero has no place on a logarithmic axis."""
    return {cost: title for cost, title in FRONT_COSTS.items() if any(getattr(e.costs, cost) for e in entries)}


def known_columns(entries: Sequence[Entry]) -> list[Column]:
    """Those of `COST_COLUMNS` that some entry has."""
    return [column for column in COST_COLUMNS if any(getattr(e.costs, column.key) is not None for e in entries)]


def rows(entries: Sequence[Entry], looks: Mapping[str, Look]) -> list[Row]:
    """The leaderboard's rows, in the order of the entries."""
    on = fronts(entries)
    ranks = [entry.rank for entry in entries]
    ends, columns = _range(entries), known_columns(entries)
    return [
        Row(
            entry=entry,
            look=looks[entry.name],
            rank=NOT_KNOWN if entry.rank is None else f"{entry.rank}{'=' if ranks.count(entry.rank) > 1 else ''}",
            bar=_bar(entry.accuracy, *ends),
            cells=[*_scores(entry), *_costs(entry, columns)],
            fronts=" ".join(cost for cost in FRONT_COSTS if entry.name in on[cost]),
        )
        for entry in entries
    ]


def _scores(entry: Entry) -> list[Cell]:
    def loss(value: float) -> str:
        return f"{value:.3f}"

    shown: list[tuple[Estimate | None, Callable[[float], str]]] = [
        (entry.accuracy, percent),
        (entry.f1, percent),
        (entry.loss, loss),
    ]
    return [
        Cell(NOT_KNOWN, None) if score is None else Cell(text(score.value), score.value, interval_text(score, text))
        for score, text in shown
    ]


def _costs(entry: Entry, columns: Sequence[Column]) -> list[Cell]:
    costs = [getattr(entry.costs, column.key) for column in columns]
    return [Cell(c.text(cost), cost, more=c.more) for c, cost in zip(columns, costs, strict=True)]


def _range(entries: Sequence[Entry]) -> tuple[float, float]:
    """The range that intervals are drawn in: that of the strategies; references may lie far below."""
    drawn = [entry.accuracy for entry in entries if entry.kind == "strategy"] or [e.accuracy for e in entries]
    ends = [end for score in drawn for end in (score.value, score.low, score.high) if end is not None]
    low, high = min(ends), max(ends)
    margin = max(0.04 * (high - low), 0.002)
    return low - margin, high + margin


def _bar(score: Estimate, low: float, high: float) -> Bar:
    def place(value: float | None) -> float:
        share = ((score.value if value is None else value) - low) / (high - low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    outside = "<" if score.value < low else ">" if score.value > high else ""
    return Bar(place(score.value), place(score.low), place(score.high), outside)
