"""Draws test accuracy against the number of training texts, with intervals, as a PNG file."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from benchmarks.support.bar_charts import GREY, figure, plain, png
from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.colors import Style, styles
from flax_agnews.report.evidence import TITLES
from flax_agnews.report.plots import spread
from flax_agnews.runs.references import TFIDF

REFERENCE = TITLES[TFIDF]
_REFERENCE_STYLE = Style("#777777", "x", GREY)
_APART = 0.018
"""Entries are drawn beside each other, so many times the number of texts apart, so that no interval hides another."""
_LINE = 0.045
"""Height of a label, of the axes' height."""


def drawn_names(sizes: Mapping[int, Answer]) -> list[str]:
    """The strategies, in the order of the experiments, and TF-IDF, where an experiment has it."""
    names = [name for answer in sizes.values() for name in answer.results.by_strategy]
    known = any(entry.name == REFERENCE for answer in sizes.values() for entry in answer.references)
    return [*dict.fromkeys(names), *([REFERENCE] if known else [])]


def entry_of(answer: Answer, name: str) -> Entry | None:
    """An experiment's entry of a name; None where it has none."""
    return next((entry for entry in answer.entries if entry.name == name), None)


def picture(sizes: Mapping[int, Answer]) -> bytes:
    """The picture as PNG.

    Args:
        sizes: number of training texts -> the answer of its experiment.
    """
    made = figure(9, 5.6, "Test accuracy on AG News by number of training texts, with 95 % intervals")
    axes: Axes = made.subplots()
    names = drawn_names(sizes)
    looks = {**styles([name for name in names if name != REFERENCE]), REFERENCE: _REFERENCE_STYLE}
    ends: dict[str, tuple[float, str]] = {}
    for place, name in enumerate(names):
        found = {rows: entry for rows, answer in sorted(sizes.items()) if (entry := entry_of(answer, name))}
        aside = 1 + _APART * (place - (len(names) - 1) / 2)
        _draw(axes, {rows * aside: entry for rows, entry in found.items()}, name, looks[name])
        last, mean = max(found), 100 * found[max(found)].mean
        ends[name] = mean, f"{name}  {mean:.1f} %" + (f" at {last:,}" if last < max(sizes) else "")
    _frame(axes, sorted(sizes))
    _name_lines(axes, ends, looks)
    return png(made)


def _draw(axes: Axes, points: Mapping[float, Entry], name: str, style: Style) -> None:
    """Draws an entry's line and intervals; points have the place on the axis of each."""
    means = [100 * entry.mean for entry in points.values()]
    ends = [
        (0.0, 0.0) if found is None or found.low is None or found.high is None
        else (100 * max(0.0, found.mean - found.low), 100 * max(0.0, found.high - found.mean))
        for entry in points.values()
        for found in [entry.accuracy]
    ]  # fmt: skip
    line: dict[str, Any] = {"linestyle": "--" if name == REFERENCE else "-", "linewidth": 1.8, "markersize": 6}
    interval: dict[str, Any] = {"elinewidth": 1.2, "capsize": 2.5, "marker": style.marker, "color": style.color}
    axes.errorbar(list(points), means, yerr=list(zip(*ends, strict=True)), **line, **interval)


def _frame(axes: Axes, rows: list[int]) -> None:
    """Sets the logarithmic axis, its ticks at the numbers of texts that were measured, and a grid."""
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{count:,}" for count in rows])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_ylabel("test texts right", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    plain(axes, "training texts (logarithmic)")


def _name_lines(axes: Axes, ends: Mapping[str, tuple[float, str]], looks: Mapping[str, Style]) -> None:
    """Writes each entry's label beside the axes, as near to its line's end as there is room."""
    low, high = axes.get_ylim()
    wanted = [(end - low) / (high - low) for end, _ in ends.values()]
    for (name, (_, label)), height in zip(ends.items(), spread(wanted, _LINE, 0.0, 1.0), strict=True):
        text: dict[str, Any] = {"va": "center", "fontsize": 9.5, "color": looks[name].color, "weight": "bold"}
        axes.text(1.02, height, label, transform=axes.transAxes, **text)
