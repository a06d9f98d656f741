"""Colours and markers: all different, fixed for the original strategies, seen on white and on dark."""

import itertools

import numpy as np
from matplotlib.colors import to_rgb

from flax_agnews.report.colors import styles


def luminance(color: str) -> float:
    """Relative luminance of sRGB (WCAG 2)."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_fourteen_strategies_have_fourteen_looks_and_known_ones_keep_theirs() -> None:
    names = [f"mine {k}" for k in range(11)] + ["prompt", "full", "partial"]
    looks = styles(names)
    for part in ("color", "marker", "dark"):
        assert len({getattr(look, part) for look in looks.values()}) == 14
    strangers = styles([f"mine {k}" for k in range(14)])
    assert len({look.color for look in strangers.values()}) == 14
    for name in ("full", "partial", "prompt"):
        assert styles([name]) == {name: looks[name]}


def test_the_three_of_the_original_stay_apart_in_grey() -> None:
    levels = sorted((look.color for look in styles(["full", "partial", "prompt"]).values()), key=luminance)
    assert all(contrast(a, b) > 1.5 for a, b in itertools.pairwise(levels))  # seen at a glance


def test_colors_are_seen_on_a_dark_background() -> None:
    """WCAG 2.1, criterion 1.4.11: graphics have a contrast of at least 3."""
    assert all(contrast(look.dark, "#1b1d22") >= 3 for look in styles(f"mine {k}" for k in range(14)).values())
