"""The page's charts as Vega-Lite specifications, made with Altair. Their data has its own file, `chart_data`."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from flax_agnews.report.html.leaderboard import FRONT_COSTS
from flax_agnews.report.html.marks import Look

METRICS = {"accuracy": "accuracy", "f1": "macro-F1", "loss": "loss"}
"""Scores of curves -> what they are called."""

CLASS_METRICS = {"f1": "F1", "precision": "precision", "recall": "recall"}

_PERCENT, _FAINT = ".1%", "var(--ink-3)"
_WHOLE = "datum.value % 1 ? '' : datum.label"  # few epochs have ticks between them
# The page's font: the widths of labels are measured with it.
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# A ring around markers, so that they stay apart where they overlap.
_RING: dict[str, Any] = {"stroke": "var(--surface)", "strokeWidth": 1}


def specifications(looks: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """All charts by name; a chart with a choice has one for each, `curves-loss`.

    Args:
        looks: name of an entry -> its look; colours are CSS variables, which follow light and dark.
    """
    scales = _Scales(looks)
    charts = {
        "forest": forest(scales),
        "calibration": calibration(scales),
        "search": search(scales),
        **{f"curves-{metric}": curves(scales, metric) for metric in METRICS},
        **{f"pareto-{cost}": pareto(scales, cost) for cost in FRONT_COSTS},
        **{f"classes-{metric}": classes(scales, metric) for metric in CLASS_METRICS},
    }
    return {name: {**chart.to_dict(), "config": _CONFIG} for name, chart in charts.items()}


class _Scales:
    """Encodings of the entry's colour and marker."""

    def __init__(self, looks: Mapping[str, Look]):
        names = list(looks)
        colors = alt.Scale(domain=names, range=[look.color for look in looks.values()])
        shapes = alt.Scale(domain=names, range=[look.path for look in looks.values()])
        self.color = alt.Color("name:N", scale=colors, legend=None)
        self.shape = alt.Shape("name:N", scale=shapes, legend=None)


def curves(scales: _Scales, metric: str) -> alt.TopLevelMixin:
    """Mean over the seeds by epoch, validation (solid, with a band of ± one sd) and training (dashed).

    The parameter `each` draws every seed's line instead of the band.
    """
    title, form = METRICS[metric], ".3f" if metric == "loss" else _PERCENT
    # The line under the pointer stays, others fade.
    hover = alt.selection_point("hover", fields=["name"], on="pointerover", clear="pointerout", nearest=True)
    fading = alt.condition(hover, alt.value(1.0), alt.value(0.2))
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d", labelExpr=_WHOLE, grid=False))
    y = {"title": title} if metric == "loss" else _percent_axis(title)
    dash = alt.Scale(domain=["validation", "training"], range=[[1, 0], [5, 4]])
    base = alt.Chart(alt.NamedData("curves")).encode(x=x, color=scales.color)
    dashed = alt.StrokeDash("split:N", legend=None, scale=dash)
    means = base.transform_aggregate(
        mean=f"mean({metric})", sd=f"stdev({metric})", seeds=f"valid({metric})", groupby=["name", "epoch", "split"]
    )
    band = (
        means.transform_filter("datum.split == 'validation'")
        .transform_calculate(width="datum.seeds > 1 ? datum.sd : 0")
        .transform_calculate(low="datum.mean - datum.width", high="datum.mean + datum.width")
        .mark_area(opacity=alt.expr("each ? 0 : 0.13"))
        .encode(y=alt.Y("low:Q", scale=alt.Scale(zero=False), **y), y2="high:Q")
    )
    seeds = base.mark_line(strokeWidth=0.8, opacity=alt.expr("each ? 0.55 : 0")).encode(
        y=alt.Y(f"{metric}:Q"), detail="seed:N", strokeDash=dashed
    )
    lines = means.mark_line(strokeWidth=2).encode(y="mean:Q", opacity=fading, strokeDash=dashed)
    points = (
        means.mark_point(filled=True, **_RING)
        .encode(y="mean:Q", shape=scales.shape, opacity=fading, tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("split:N"),
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("mean:Q", title=f"mean {title}", format=form),
            alt.Tooltip("sd:Q", title="sd", format=form),
            alt.Tooltip("seeds:Q"),
        ], size=alt.condition("datum.split == 'validation'", alt.value(70), alt.value(24)))
        .add_params(hover)
    )  # fmt: skip
    each = alt.param("each", value=False)
    return alt.layer(band, seeds, lines, points).add_params(each).properties(width="container", height=360)


def pareto(scales: _Scales, cost: str) -> alt.TopLevelMixin:
    """Accuracy with its interval against a cost above zero, and the front as a stepped line."""
    axis = alt.Axis(format="~s", grid=False, tickCount=6)
    scale = alt.Scale(type="log", nice=False, padding=50)
    x = alt.X(f"{cost}:Q", title=f"{FRONT_COSTS[cost]} (logarithmic)", scale=scale, axis=axis)
    y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), **_percent_axis("accuracy"))
    base = alt.Chart(alt.NamedData("entries")).encode(x=x, y=y)
    on_front = base.transform_filter(f"datum.front_{cost}")
    line = on_front.mark_line(interpolate="step-after", color=_FAINT, strokeDash=[4, 3], strokeWidth=1.5)
    whiskers = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=alt.Y("low:Q", **_percent_axis("accuracy")), y2="high:Q", color=scales.color
    )
    points = base.mark_point(filled=True, size=130, opacity=1, **_RING).encode(
        color=scales.color, shape=scales.shape, tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("accuracy:Q", format=_PERCENT),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip(f"{cost}_text:N", title=FRONT_COSTS[cost]),
            alt.Tooltip(f"front_{cost}:N", title="on the front"),
        ],
    )  # fmt: skip
    names = on_front.mark_text(align="right", dx=-8, dy=-8, limit=150, color="var(--ink)").encode(text="name:N")
    return alt.layer(line, whiskers, points, names).properties(width="container", height=340)


def forest(scales: _Scales) -> alt.TopLevelMixin:
    """Differences from one entry, with intervals; the zero line means no difference."""
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(grid=False, labelLimit=150, ticks=False, domain=False))
    base = alt.Chart(alt.NamedData("differences")).encode(y=y)
    zero = alt.Chart(alt.NamedData("zero")).mark_rule(color=_FAINT, strokeDash=[4, 3]).encode(x="zero:Q")
    axis = alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value, '+~r')", tickCount=8)
    whiskers = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="points of accuracy", axis=axis, scale=alt.Scale(padding=14)),
        x2="high:Q",
        color=scales.color,
    )
    points = base.mark_point(filled=True, size=110, opacity=1, **_RING).encode(
        x=alt.X("difference:Q"), color=scales.color, shape=scales.shape, tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("against:N", title="compared with"),
            alt.Tooltip("difference:Q", title="points", format="+.2f"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("p:N", title="p (Holm)"),
        ],
    )  # fmt: skip
    # The page sets the height by the number of rows: Vega-Lite warns of rows of a fixed height in a container's width.
    return alt.layer(zero, whiskers, points).properties(width="container", usermeta={"row": 26})


def calibration(scales: _Scales) -> alt.TopLevelMixin:
    """Share of right answers against confidence, a small chart for each strategy; the diagonal is perfect."""
    share = alt.Scale(domain=[0, 1])
    ticks = [0, 0.5, 1]
    base = alt.Chart().encode(x=alt.X("confidence:Q", scale=share, **_percent_axis("confidence", values=ticks)))
    diagonal = base.mark_line(color=_FAINT, strokeDash=[4, 3], strokeWidth=1).encode(
        y=alt.Y("confidence:Q", scale=share, **_percent_axis("right", values=ticks))
    )
    right = base.encode(y=alt.Y("accuracy:Q"), color=scales.color)
    points = right.mark_point(filled=True, opacity=1).encode(
        shape=scales.shape, size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[15, 120])), tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("confidence:Q", title="mean confidence", format=_PERCENT),
            alt.Tooltip("accuracy:Q", title="right", format=_PERCENT),
            alt.Tooltip("count:Q", title="answers", format=","),
        ],
    )  # fmt: skip
    return _small(alt.layer(diagonal, right.mark_line(strokeWidth=1.5), points), "calibration", square=True)


def search(scales: _Scales) -> alt.TopLevelMixin:
    """Validation accuracy of the trials by factor of the rates, a small chart for each strategy."""
    axis = alt.Axis(format="~g", grid=False, tickCount=3)
    x = alt.X("factor:Q", scale=alt.Scale(type="log"), title="factor of the rates", axis=axis)
    y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), **_percent_axis("validation", tickCount=4))
    base = alt.Chart().encode(x=x, y=y, color=scales.color)
    points = base.mark_point(opacity=1, strokeWidth=1.5).encode(
        shape=scales.shape,
        size=alt.condition("datum.chosen", alt.value(130), alt.value(30)),
        fill=alt.condition("datum.chosen", scales.color, alt.value("var(--surface)")),
        tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("factor:Q", format="~g"),
            alt.Tooltip("accuracy:Q", title="validation", format=_PERCENT),
            alt.Tooltip("chosen:N"),
        ],
    )
    return _small(alt.layer(base.mark_line(strokeWidth=1.5), points), "search")


def classes(scales: _Scales, metric: str) -> alt.TopLevelMixin:
    """A score of every strategy with its interval, a small chart for each class."""
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(grid=False, labelLimit=110, ticks=False, domain=False))
    base = alt.Chart().encode(y=y, color=scales.color)
    percent = _percent_axis(CLASS_METRICS[metric], tickCount=4)
    x = alt.X(f"{metric}_low:Q", scale=alt.Scale(zero=False), **percent)
    whiskers = base.mark_rule(strokeWidth=1.5).encode(x=x, x2=f"{metric}_high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X(f"{metric}:Q"), shape=scales.shape, tooltip=[
            alt.Tooltip("name:N", title="strategy"),
            alt.Tooltip("title:N", title="class"),
            alt.Tooltip(f"{metric}:Q", title=CLASS_METRICS[metric], format=_PERCENT),
            alt.Tooltip(f"{metric}_interval:N", title="95 % interval"),
        ],
    )  # fmt: skip
    return _small(alt.layer(whiskers, points).properties(height=alt.Step(20)), "classes", wide=True)


def _percent_axis(title: str, **more: Any) -> dict[str, Any]:
    """Title and axis of shares, in percent; the unit stands in the title."""
    axis = alt.Axis(labelExpr="format(100 * datum.value, '.4~r')", **more)
    return {"title": f"{title}, %", "axis": axis}


def _small(layers: Any, data: str, square: bool = False, wide: bool = False) -> alt.TopLevelMixin:
    """One small chart for each `title` in the data, ordered by `place`.

    The page fills in how many stand in a row, and how wide they are. (A list of titles as the order would become part
    of an expression; data must not.)
    """
    header = alt.Header(title=None, labelFontSize=13, labelFontWeight=600, labelColor="var(--ink)", labelLimit=200)
    facet = alt.Facet("title:N", sort=alt.EncodingSortField("place", op="min"), header=header)
    usermeta = {"small": {"width": 260 if wide else 170, "square": square}}
    return layers.facet(facet=facet, data=alt.NamedData(data), columns=1, usermeta=usermeta)


_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink-2)",
        "titleColor": "var(--ink-2)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "text": {"fontSize": 12},
    "facet": {"spacing": 18},
}
