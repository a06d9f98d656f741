"""The charts' specifications: their fields are in the data, their colours follow light and dark."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.page_contents import HOSTILE, content

from flax_agnews.report.html.chart_data import tables
from flax_agnews.report.html.charts import specifications
from flax_agnews.report.html.marks import looks

CONTENT = content(strategies=3, seeds=2, texts=60, extra=HOSTILE)
CHARTS = specifications(looks(CONTENT.entries))
MADE_BY_THE_PAGE = {
    "forest": {"name", "against", "difference", "low", "high", "interval", "p", "zero"},
    "curves": {"mean", "sd", "seeds", "low", "high"},
}
"""Columns that the page or the chart itself computes."""


def fields(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("field"), str):
            yield part["field"]
        for value in part.values():
            yield from fields(value)
    elif isinstance(part, list):
        for value in part:
            yield from fields(value)


@pytest.mark.parametrize("name", CHARTS)
def test_every_field_is_a_column_of_the_data(name: str) -> None:
    chart = name.split("-")[0]
    data = tables(CONTENT)
    columns = set(data.get({"pareto": "entries"}.get(chart, chart), {})) | MADE_BY_THE_PAGE.get(chart, set())
    used = set(fields({key: part for key, part in CHARTS[name].items() if key != "config"}))
    assert used
    assert used <= columns


def test_choices_have_a_chart_each() -> None:
    assert {"forest", "calibration", "search", "curves-loss", "pareto-seconds", "classes-recall"} < set(CHARTS)
    assert len(CHARTS) == 3 + 3 + 3 + 3


@pytest.mark.parametrize("name", CHARTS)
def test_no_color_is_fixed_and_no_name_is_in_an_expression(name: str) -> None:
    text = json.dumps(CHARTS[name])
    assert '"#' not in text
    expressions = [part for part in text.split('"') if "datum." in part or " ? " in part]
    assert not [part for part in expressions if "script" in part]
