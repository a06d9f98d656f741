"""Horizontal bar charts as PNG files, for the pictures of measured speed."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008), as in the reports
BLUE, GREEN, ORANGE, GREY = "#0072B2", "#009E73", "#E69F00", "#BBBBBB"
COLORS: Mapping[str, str] = {"full": BLUE, "prompt": ORANGE, "partial": GREEN}
"""Strategy -> its colour."""

BAR = 0.32
"""Height of a bar, in inches."""


class Bar(NamedTuple):
    """A horizontal bar.

    Attributes:
        name: label on the left.
        value, least, most: length of the bar, and ends of its error line.
        text: label on the right.
        color: colour of the bar.
    """

    name: str
    value: float
    least: float
    most: float
    text: str
    color: str


def figure(width: float, height: float, title: str) -> Figure:
    """Makes an empty figure; width and height in inches."""
    made = Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(made)
    made.suptitle(title, fontsize=12)
    return made


def png(made: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    made.savefig(file, format="png")
    return file.getvalue()


def draw_bars(axes: Axes, bars: Sequence[Bar], label: str) -> None:
    """Draws bars from top to bottom; `label` is the measured quantity with its unit."""
    places = range(len(bars))
    reach = [[bar.value - bar.least for bar in bars], [bar.most - bar.value for bar in bars]]
    colors = [bar.color for bar in bars]
    lines: dict[str, Any] = {"xerr": reach, "ecolor": "#444444", "capsize": 2} if np.any(reach) else {}
    axes.barh(places, [bar.value for bar in bars], color=colors, height=0.7, **lines)
    most = max(bar.most for bar in bars)
    for place, bar in zip(places, bars, strict=True):
        axes.text(bar.most + 0.02 * most, place, bar.text, va="center", fontsize=9)
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.set_xlim(0, 1.4 * most)
    axes.invert_yaxis()
    plain(axes, label)


def plain(axes: Axes, label: str) -> None:
    """Sets small ticks, removes the box, and labels the horizontal axis."""
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
