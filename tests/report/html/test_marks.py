"""The looks of entries: as in the pictures, all different, references in grey."""

import re

from support.page_contents import content

from flax_agnews.report.colors import styles
from flax_agnews.report.html.marks import css_variables, looks

ENTRIES = content(texts=50, seeds=1).entries


def test_strategies_have_the_pictures_colors_and_references_grey() -> None:
    found = looks(ENTRIES)
    strategies = [entry.name for entry in ENTRIES if entry.kind == "strategy"]
    pictures = styles(strategies)
    assert [found[name].light for name in strategies] == [pictures[name].color for name in strategies]
    assert len({look.path for look in found.values()}) == len(ENTRIES) == 15
    references = {found[entry.name].light for entry in ENTRIES if entry.kind == "reference"}
    (grey,) = references
    assert grey not in {found[name].light for name in strategies}


def test_markers_fill_the_square_from_minus_one_to_one() -> None:
    for name, look in looks(ENTRIES).items():
        numbers = [abs(float(number)) for number in re.findall(r"-?\d*\.?\d+", look.path)]
        assert 0.8 <= max(numbers) <= 1.0, name


def test_every_color_is_a_variable_in_light_and_dark() -> None:
    found = looks(ENTRIES)
    css = css_variables(found.values())
    for look in found.values():
        assert look.color == f"var(--{look.variable})"
        assert f"--{look.variable}:light-dark({look.light},{look.dark});" in css
