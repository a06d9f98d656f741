"""Draws accuracy by epoch, all strategies in one figure, each with its own colour and marker."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from flax_agnews.report.colors import Style, styles
from flax_agnews.report.tables import model_text, seeds_text
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.system.files import write_atomic
from flax_agnews.system.text import counted, one_line, shorten

Point = tuple[float, float]

_WIDTH, _DPI = 10.0, 120  # inches; 1200 pixels, the width of a page
_TEXT, _TITLE = 11.0, 14.0  # points
_INK, _FAINT = "#222222", "#666666"
_MOST_CHARACTERS = 22  # of a strategy's name in the figure
_MOST_BANDS = 6  # strategies; of more, bands and training lines would hide each other
_LEAST_RANGE = 4.0  # points of accuracy; less would magnify noise
_VALIDATION: Mapping[str, Any] = {"linewidth": 2.2, "markersize": 7, "markeredgecolor": "white"}
_TRAINING: Mapping[str, Any] = {"linewidth": 1.1, "markersize": 4, "markerfacecolor": "white"}


def crowded(results: Results) -> bool:
    """Whether the strategies are so many that only their mean validation accuracy is drawn."""
    return len(results.by_strategy) > _MOST_BANDS


def accuracy_curves(results: Results) -> Figure:
    """Draws training (dashed) and validation (solid) accuracy by epoch: means over seeds, with sd as a band."""
    groups = results.by_strategy
    height = 6.0 + 0.15 * max(0, len(groups) - 6)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    labels = _labels(groups)
    right = _WIDTH - _widest(figure, labels.values()) - 0.45
    axes = figure.add_axes((0.9 / _WIDTH, 0.6 / height, (right - 0.9) / _WIDTH, 1 - 1.7 / height))
    looks = styles(groups)
    ends = {
        name: _draw(axes, runs, looks[name], place / (len(groups) + 1) - 0.5, alone=crowded(results))
        for place, (name, runs) in enumerate(groups.items(), start=1)
    }
    _frame(axes)
    _majority(axes, results.data.majority_accuracy)
    _name_lines(axes, ends, labels, looks)
    _legend(axes, results)
    _titles(figure, results, height)
    return figure


def write(results: Results, path: Path) -> list[Path]:
    """Writes the accuracy curves as a PNG file, 1200 pixels wide, and as an SVG file beside it; returns both paths.

    Args:
        results: the results.
        path: the PNG file's path.
    """
    figure, files = accuracy_curves(results), []
    # The same results give the same files: no date, and names of shapes that don't change from call to call.
    with matplotlib.rc_context({"svg.hashsalt": "flax_agnews"}):
        for kind, about in (("png", {}), ("svg", {"Date": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, dpi=_DPI, metadata=about)
            files.append(write_atomic(path.with_suffix(f".{kind}"), stream.getvalue()))
    return files


def spread(positions: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Moves positions as little as possible (least squares) so that all are at least `gap` apart, within low..high.

    Where they can't all fit, the gap is reduced. The result has the order of `positions`.
    """
    wanted = np.asarray(positions, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    steps = min(gap, (high - low) / max(len(wanted) - 1, 1)) * np.arange(len(wanted))
    # With the gaps subtracted, the positions only have to be non-decreasing: isotonic regression.
    level = isotonic_regression(wanted[order] - steps).x
    placed = np.empty_like(wanted)
    placed[order] = np.clip(level, low, high - steps[-1]) + steps
    return placed


def _curves(runs: Sequence[RunResult], key: str) -> NDArray[np.float64]:
    """Accuracies in percent, [runs, epochs]; shorter runs are extended with their last value."""
    curves = [getattr(run, key) for run in runs]
    epochs = max(map(len, curves))
    return 100 * np.array([np.pad(curve, (0, epochs - len(curve)), mode="edge") for curve in curves], np.float64)


def _draw(axes: Axes, runs: Sequence[RunResult], style: Style, aside: float, alone: bool) -> Point:
    """Draws the lines of one strategy, only the validation line if `alone`; returns the last point of that line.

    A single epoch is drawn as points, shifted by `aside` (-0.5 to 0.5) so that strategies don't hide each other.
    """
    validation = _curves(runs, "val_accuracy")
    epochs = np.arange(1.0, validation.shape[1] + 1)
    if len(epochs) == 1:
        epochs += 0.5 * aside
    mean = validation.mean(axis=0)
    # In long runs a marker at every epoch would hide the line.
    every = max(1, len(epochs) // 10)
    look: dict[str, Any] = {"color": style.color, "marker": style.marker, "markevery": every}
    axes.plot(epochs, mean, "-", **_VALIDATION, **look, zorder=3)
    if alone:
        return float(epochs[-1]), float(mean[-1])
    axes.plot(epochs, _curves(runs, "train_accuracy").mean(axis=0), "--", **_TRAINING, **look)
    sd = validation.std(axis=0, ddof=1) if len(runs) > 1 else None
    if sd is not None and len(epochs) == 1:
        axes.errorbar(epochs, mean, sd, color=style.color, elinewidth=6, alpha=0.25)
    elif sd is not None:
        axes.fill_between(epochs, mean - sd, mean + sd, color=style.color, alpha=0.15, linewidth=0)
    return float(epochs[-1]), float(mean[-1])


def _frame(axes: Axes) -> None:
    """Sets limits, ticks, labels and grid of the axes."""
    longest = max(1, int(axes.dataLim.x1))
    # A single epoch is drawn as a column of points, which needs room on both sides.
    edge = 0.5 if longest == 1 else 0.03 * (longest - 1)
    axes.set_xlim(1 - edge, longest + edge)
    low, high = axes.dataLim.y0, axes.dataLim.y1
    margin = max(0.06 * (high - low), (_LEAST_RANGE - (high - low)) / 2)
    bottom = max(low - margin, -1)
    axes.set_ylim(bottom, min(high + margin, 100 + 0.03 * (100 - bottom)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("epoch", fontsize=_TEXT, color=_INK)
    axes.set_ylabel("accuracy", fontsize=_TEXT, color=_INK)
    axes.tick_params(labelsize=_TEXT - 1, colors=_INK)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _majority(axes: Axes, share: float) -> None:
    """Draws the accuracy of always answering the most frequent class, where it is within the axes."""
    percent = 100 * share
    low, high = axes.get_ylim()
    if low < percent < high:
        axes.axhline(percent, color=_FAINT, linewidth=1, linestyle=":")
        look: dict[str, Any] = {"fontsize": _TEXT - 2, "color": _FAINT, "ha": "right", "va": "bottom"}
        axes.text(0.99, percent, "majority class", transform=axes.get_yaxis_transform(), **look)


def _labels(groups: Mapping[str, Sequence[RunResult]]) -> dict[str, str]:
    """The label at the end of each line: the strategy and its last mean validation accuracy."""
    last = {name: _curves(runs, "val_accuracy")[:, -1].mean() for name, runs in groups.items()}
    return {name: f"{shorten(one_line(name), _MOST_CHARACTERS)}  {last[name]:.1f} %" for name in groups}


def _widest(figure: Figure, labels: Iterable[str]) -> float:
    """Width of the widest label in inches, measured by drawing all of them."""
    drawn = [figure.text(0, 0, label, fontsize=_TEXT, parse_math=False) for label in labels]
    width = max(text.get_window_extent().width for text in drawn) / _DPI
    for text in drawn:
        text.remove()
    return width


def _name_lines(axes: Axes, ends: Mapping[str, Point], labels: Mapping[str, str], looks: Mapping[str, Style]) -> None:
    """Writes each line's label at its end; labels are shifted apart and connected by leaders in the line's colour."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    width, height = (axes.bbox.width / _DPI, axes.bbox.height / _DPI)
    places = spread([(y - low) / (high - low) for _, y in ends.values()], 1.35 * _TEXT / 72 / height, 0.0, 1.0)
    inch = (right - left) / width
    for (name, (x, y)), place in zip(ends.items(), places, strict=True):
        across, up = [x, right, right + 0.22 * inch], [y, y, low + place * (high - low)]
        axes.plot(across, up, color=looks[name].color, linewidth=0.9, alpha=0.8, clip_on=False, zorder=1)
        look: dict[str, Any] = {
            "fontsize": _TEXT,
            "color": _INK,
            "va": "center_baseline",
            "parse_math": False,
        }
        axes.text(1 + 0.28 / width, place, labels[name], transform=axes.transAxes, **look)
    # The leaders end outside the axes, which must not be widened.
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _legend(axes: Axes, results: Results) -> None:
    """Draws the legend of the kinds of line and the band; strategies are labelled at their lines."""
    look: dict[str, Any] = {"color": _FAINT, "marker": "o"}
    kinds: list[Line2D | Patch] = [Line2D([], [], **look, **_VALIDATION, label="validation")]
    if not crowded(results):
        kinds.append(Line2D([], [], **look, **_TRAINING, linestyle="--", label="training"))
    if not crowded(results) and any(len(runs) > 1 for runs in results.by_strategy.values()):
        label = f"± sd of {seeds_text(results)} (validation)"
        kinds.append(Patch(facecolor=_FAINT, alpha=0.25, linewidth=0, label=label))
    where: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (-0.01, 1.0),
        "ncols": 3,
        "frameon": False,
    }
    axes.legend(handles=kinds, fontsize=_TEXT - 1, labelcolor=_INK, borderpad=0.2, **where)


def _titles(figure: Figure, results: Results, height: float) -> None:
    """Writes title and subtitle: seeds, data, model."""
    seeds, data = seeds_text(results), results.data
    title = f"{'Accuracy' if seeds == '1 seed' else 'Mean accuracy'} by epoch, {seeds} a strategy"
    texts = f"{data.train:,} training and {counted(data.validation, 'validation text')}"
    subtitle = f"{shorten(one_line(data.source), 36)}: {texts}  ·  {model_text(results.model)}"
    look: dict[str, Any] = {"parse_math": False, "va": "top"}
    figure.text(0.02, 1 - 0.15 / height, title, fontsize=_TITLE, weight="bold", color=_INK, **look)
    figure.text(0.02, 1 - 0.48 / height, subtitle, fontsize=_TEXT - 1, color=_FAINT, **look)
