"""The leaderboard's rows against the entries that they show."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_agnews.report.html.content import Costs, Entry, Estimate
from flax_agnews.report.html.leaderboard import (
    COST_COLUMNS,
    FRONT_COSTS,
    front,
    known_columns,
    known_front_costs,
    power_text,
    rows,
)
from flax_agnews.report.html.marks import looks

FULL = Entry(
    name="full", rank=1, seeds=5, accuracy=Estimate(0.93, 0.92, 0.94), costs=Costs(trained=124e6, seconds=90.0)
)
LORA = Entry(name="lora", rank=1, seeds=5, accuracy=Estimate(0.925, 0.91, 0.94), costs=Costs(trained=3e5, seconds=95.0))
HEAD = Entry(name="head", rank=3, seeds=5, accuracy=Estimate(0.9), costs=Costs(trained=3076, seconds=10.0))
GUESS = Entry(name="majority", kind="reference", rank=None, seeds=1, accuracy=Estimate(0.25, 0.24, 0.26))
ENTRIES = [FULL, LORA, HEAD, GUESS]


@given(st.dictionaries(st.text(), st.tuples(st.none() | st.integers(0, 5), st.integers(0, 5))))
def test_the_front_is_whom_no_other_beats(points: dict[str, tuple[int | None, int]]) -> None:
    def beats(one: tuple[int | None, int], other: tuple[int | None, int]) -> bool:
        return one[0] <= other[0] and one[1] >= other[1] and one != other  # type: ignore[operator]

    known = {name: point for name, point in points.items() if point[0] is not None}
    expected = {name for name, point in known.items() if not any(beats(other, point) for other in known.values())}
    assert front({name: (cost, float(score)) for name, (cost, score) in points.items()}) == expected


def test_rows_have_ranks_scores_costs_and_fronts() -> None:
    full, lora, head, guess = rows(ENTRIES, looks(ENTRIES))
    assert [row.rank for row in (full, lora, head, guess)] == ["1=", "1=", "3", "–"]
    assert [(cell.text, cell.small) for cell in full.cells[:3]] == [("93.0", "92.0 to 94.0"), ("–", ""), ("–", "")]
    assert (head.cells[0].small, guess.cells[0].text) == ("", "25.0")
    costs, none = (
        dict(zip((column.key for column in known_columns(ENTRIES)), row.cells[3:], strict=True))
        for row in (full, guess)
    )
    assert (costs["trained"].text, costs["seconds"].text, none["seconds"].text) == ("124 M", "1 min 30 s", "–")
    assert (costs["trained"].sort, none["trained"].sort) == (124e6, None)
    assert [row.fronts for row in (full, lora, head, guess)] == ["trained seconds", "trained", "trained seconds", ""]


def test_intervals_are_drawn_on_the_scale_of_the_strategies() -> None:
    full, lora, head, guess = (row.bar for row in rows(ENTRIES, looks(ENTRIES)))
    assert full.high == lora.high > full.value > lora.value > full.low - 1e-9 > lora.low
    assert (full.value - lora.value) / (full.value - head.value) == pytest.approx(0.005 / 0.03, rel=1e-3)
    assert head.low == head.value == head.high
    assert (head.outside, guess.outside, guess.value) == ("", "<", 0)
    alone = rows([replace(HEAD)], looks([HEAD]))[0].bar
    assert alone.value == pytest.approx(50)  # one entry without an interval has a scale all the same


def test_costs_that_nobody_has_are_not_offered() -> None:
    assert list(known_front_costs(ENTRIES)) == ["trained", "seconds"]
    assert known_front_costs([GUESS]) == {}
    assert [column.key for column in known_columns(ENTRIES)] == ["trained", "seconds"]
    assert set(FRONT_COSTS) <= {column.key for column in COST_COLUMNS}


def test_large_numbers_have_powers_of_ten() -> None:
    assert (power_text(3.14e15), power_text(None)) == ("3.1 · 10¹⁵", "–")
