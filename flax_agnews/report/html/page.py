"""The page `report.html`: one file with everything in it, which asks for nothing from the network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from flax_agnews.report.html import chart_data, charts, leaderboard
from flax_agnews.report.html.content import MOST_CLASSES, PageContent
from flax_agnews.report.html.marks import Look, css_variables, looks
from flax_agnews.report.html.opened_texts import OpenedTexts, opened_texts
from flax_agnews.system.text import p_text

MOST_BYTES = 2_000_000
"""Largest size of the page; texts are left out, saying so, where they would exceed it."""

_FOR_TABLES = 250_000  # bytes kept free for the page's tables when texts are packed
_SCRIPTS = ("page.js", "tables.js", "charts.js", "texts.js", "start.js")
_ASSETS = Path(__file__).parent / "assets"


def html_page(content: PageContent) -> str:
    """The whole page as HTML."""
    found = looks(content.entries)
    data = embedded_json(
        {
            "specifications": charts.specifications(found),
            "tables": chart_data.tables(content),
            "classes": list(content.classes),
            "names": [entry.name for entry in content.entries],
        }
    )
    scripts = [library(), "\n".join((_ASSETS / name).read_text("utf-8") for name in _SCRIPTS)]
    style = (_ASSETS / "page.css").read_text("utf-8")
    room = MOST_BYTES - _FOR_TABLES - sum(len(part.encode()) for part in (data, style, *scripts))
    opened = opened_texts(content, max(room, 0))
    return (
        _environment()
        .get_template("page.html")
        .render(
            content=content,
            looks=found,
            colors=Markup(css_variables(found.values())),
            style=Markup(style),
            policy=_policy(scripts),
            data=Markup(data),
            opened=opened,
            scripts=[Markup(script) for script in scripts],
            **_parts(content, found, opened),
        )
    )


def _parts(content: PageContent, found: dict[str, Look], opened: OpenedTexts) -> dict[str, Any]:
    """What the template shows that is computed from the content."""
    most = MOST_CLASSES
    return {
        "rows": leaderboard.rows(content.entries, found),
        "intervals": any(entry.accuracy.low is not None for entry in content.entries),
        "cost_columns": leaderboard.known_columns(content.entries),
        "priced": [e for e in content.entries if any(getattr(e.costs, cost) for cost in leaderboard.FRONT_COSTS)],
        "calibrated": [e for e in content.entries if e.name in {one.strategy for one in content.calibration}],
        "known_calibration": any(one.error.low is not None for one in content.calibration),
        "front_costs": leaderboard.known_front_costs(content.entries),
        "metrics": chart_data.known_metrics(content.curves),
        "class_metrics": charts.CLASS_METRICS,
        "class_scores": chart_data.class_scores(content),
        "many_classes": len(content.classes) > most,
        "most_classes": most,
        "strategies": [entry for entry in content.entries if entry.kind == "strategy"],
        "longest": max(map(chart_data.epochs, content.curves), default=0),
        "most_epochs": chart_data.MOST_EPOCHS,
        "early": len({(c.strategy, chart_data.epochs(c)) for c in content.curves})
        > len({c.strategy for c in content.curves}),
        "seeds": sorted({curve.seed for curve in content.curves}),
        "last": {name: _last(content, name) for name in dict.fromkeys(c.strategy for c in content.curves)},
        "listed": [
            ("all-wrong", "All strategies get these wrong", [n for n in content.all_wrong if n in opened.numbers],
             len(content.all_wrong)),
            ("disputed", "Strategies disagree on these", [n for n in content.disputed if n in opened.numbers],
             len(content.disputed)),
        ],
    }  # fmt: skip


def _last(content: PageContent, strategy: str) -> dict[str, float | None]:
    """The mean over seeds of a strategy's scores in its runs' last epochs; None where one is unknown."""
    runs = [curve for curve in content.curves if curve.strategy == strategy]
    found: dict[str, float | None] = {}
    for part in ("train_accuracy", "validation_accuracy", "validation_f1", "train_loss", "validation_loss"):
        ends = [curve[-1] if (curve := getattr(run, part)) else None for run in runs]
        known = [end for end in ends if end is not None]
        found[part] = sum(known) / len(known) if known and len(known) == len(ends) else None
    return found


def confused(counts: Sequence[Sequence[int]], most: int) -> list[tuple[int, int, int, float]]:
    """The most frequent confusions: true class, predicted class, answers, and their share of the true class's."""
    wrong = [
        (true, predicted, count, count / sum(row))
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and predicted != true
    ]
    return sorted(wrong, key=lambda found: -found[2])[:most]


def embedded_json(value: Any) -> str:
    """JSON that can stand in a script element: without "<", which could close it, and without a bare line separator."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed, BSD licence, as one script that needs nothing else."""
    import vl_convert  # starts a JavaScript engine: slow, and needed for the page alone

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle.lower()
    return bundle


def _policy(scripts: list[str]) -> str:
    """A content security policy: only these scripts run, and nothing is loaded from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


@cache
def _environment() -> jinja2.Environment:
    """Templates that escape all that is inserted."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "percent": leaderboard.percent,
        "interval": leaderboard.interval_text,
        "points": lambda share: f"{100 * share:+.2f}",
        "p": p_text,
        "confused": confused,
        "yaml": _yaml,
    }
    made.globals |= {"percent": leaderboard.percent, "signed": lambda share: f"{100 * share:+.2f}"}
    return made


def _yaml(value: object) -> str:
    """Nested settings as YAML, which is easy to read; values of other types as text."""
    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).strip()
