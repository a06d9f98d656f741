"""The picture of `benchmarks.vs_pytorch`: a panel of bars for each suite."""

import io
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.support.vs_pytorch_tables import Record, model_text, ratio, speeds

# Okabe and Ito (2008), as in the reports: the library is blue, paler with another strategy
_OURS, _OURS_TOO, _THEIRS = "#0072B2", "#56B4E9", "#BBBBBB"
_BAR = 0.32  # height of a bar, in inches


def picture(record: Record) -> bytes:
    """The picture of results as PNG: real tokens per second of every contender."""
    names = list(record["suites"])
    columns = 2 if len(names) > 1 else 1
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    tallest = [max(len(record["suites"][name]["contenders"]) for name in row) for row in rows]
    height = 1.1 + sum(_BAR * bars + 0.85 for bars in tallest)
    figure = Figure(figsize=(5 + 4 * columns, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": [b + 2 for b in tallest]})
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        _panel(axes, record, name)
    made, settings = record["made"], record["settings"]
    figure.suptitle(
        f"Training speed beside PyTorch: real tokens per second, {settings['batch_size']} AG News texts an update\n"
        f"{model_text(record)}; {made['processor']}{'' if made['backend'] == 'cpu' else ', ' + made['device']}",
        fontsize=12,
    )
    figure.supxlabel(
        f"Bars: median of {settings['repeats']} interleaved repeats; lines: least and most; in brackets: ours to it",
        fontsize=9,
    )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _panel(axes: Axes, record: Record, name: str) -> None:
    """Draws a suite's bars, one per contender."""
    contenders: dict[str, Any] = record["suites"][name]["contenders"]
    every = {contender: speeds(measured) for contender, measured in contenders.items()}
    middle = {contender: median(values) for contender, values in every.items()}
    reach = [
        [middle[contender] - min(values) for contender, values in every.items()],
        [max(values) - middle[contender] for contender, values in every.items()],
    ]
    colors = [_OURS if c == "ours" else _OURS_TOO if c.startswith("ours") else _THEIRS for c in every]
    axes.barh(list(every), list(middle.values()), xerr=reach, color=colors, ecolor="#444444", capsize=2, height=0.7)
    most = max(max(values) for values in every.values())
    for place, contender in enumerate(every):
        factor = ratio(record, name, contender)
        times = "" if contender == "ours" or factor is None else f"  (ours: {factor:.2f} x)"
        axes.text(
            max(every[contender]) + 0.02 * most, place, f"{middle[contender]:.0f}{times}", va="center", fontsize=9
        )
    axes.set_xlim(0, 1.3 * most)
    axes.invert_yaxis()
    axes.set_title(" ".join(name.split("-")), fontsize=11, loc="left")
    axes.set_xlabel("real tokens per second", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
