"""The accuracy curves against NumPy, and whether people can read them."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy import stats
from support.report_results import THREE, ended_early, make, parsed

from flax_agnews.report import plots
from flax_agnews.report.colors import styles


def lines_of(figure: Figure, color: str, style: str) -> list[np.ndarray]:
    """Heights of the lines in that colour and dash that carry markers; leaders carry none."""
    lines = figure.axes[0].get_lines()
    chosen = [line for line in lines if to_hex(line.get_color()) == color.lower()]
    marked = [line for line in chosen if line.get_linestyle() == style and line.get_marker() != "None"]
    return [np.asarray(line.get_ydata()) for line in marked]


@pytest.mark.parametrize("epochs", [1, 5])
def test_lines_are_the_means_over_seeds(epochs: int) -> None:
    results = make(THREE, epochs)
    figure = plots.accuracy_curves(parsed(results))
    for name, look in styles(THREE).items():
        runs = [run for run in results["runs"] if run["strategy"] == name]
        for style, key in (("-", "val_accuracy"), ("--", "train_accuracy")):
            (line,) = lines_of(figure, look.color, style)
            np.testing.assert_allclose(line, 100 * np.mean([run[key] for run in runs], axis=0))


def test_the_band_is_one_sd_of_the_validation_accuracy_and_is_named() -> None:
    results = make({"full": [0.9, 0.92, 0.95]}, epochs=4)
    axes = plots.accuracy_curves(parsed(results)).axes[0]
    values = 100 * np.array([run["val_accuracy"] for run in results["runs"]])
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for epoch, column in enumerate(values.T, start=1):
        heights = corners[corners[:, 0] == epoch, 1]
        center, sd = column.mean(), stats.tstd(column)
        assert (heights.min(), heights.max()) == (pytest.approx(center - sd), pytest.approx(center + sd))
    assert any("sd of 3 seeds" in text.get_text() for text in axes.get_legend().get_texts())


def test_runs_that_ended_early_go_on_with_their_last_accuracy() -> None:
    """Line, band and label against each run's accuracies, the last one repeated by hand."""
    results = ended_early(make({"full": [0.9, 0.92, 0.95], "head": [0.5]}, epochs=5), [2, 5, 3, 4])
    figure, look = plots.accuracy_curves(parsed(results)), styles(["full", "head"])
    three, one = results["runs"][:3], results["runs"][3]
    for style, key in (("-", "val_accuracy"), ("--", "train_accuracy")):
        (line,) = lines_of(figure, look["full"].color, style)
        (alone,) = lines_of(figure, look["head"].color, style)
        whole = 100 * np.array([[*run[key], *[run[key][-1]] * (5 - len(run[key]))] for run in three])
        np.testing.assert_allclose(line, whole.mean(axis=0))
        np.testing.assert_allclose(alone, 100 * np.array(one[key]))  # no longer than its own
        if style == "-":
            (band,) = figure.axes[0].collections
            corners = band.get_paths()[0].vertices
            for epoch, column in enumerate(whole.T, start=1):
                heights = corners[corners[:, 0] == epoch, 1]
                assert np.ptp(heights) == pytest.approx(2 * stats.tstd(column))
    label = f"full  {100 * np.mean([run['val_accuracy'][-1] for run in three]):.1f} %"
    assert label in [text.get_text() for text in figure.axes[0].texts]


def test_one_seed_has_no_band() -> None:
    axes = plots.accuracy_curves(parsed(make({"full": [0.9]}))).axes[0]
    assert not axes.collections
    assert not any("sd" in text.get_text() for text in axes.get_legend().get_texts())


@pytest.mark.parametrize("epochs", [1, 2, 5, 30])
def test_epochs_are_whole_numbers_from_one(epochs: int) -> None:
    axes = plots.accuracy_curves(parsed(make(THREE, epochs))).axes[0]
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)


@pytest.mark.parametrize("count", [1, 3, 9, 14])
def test_names_stand_apart_inside_the_picture(count: int) -> None:
    close = {f"strategy number {k}, a long name": [0.93 + k / 1e5] for k in range(count)}
    figure = plots.accuracy_curves(parsed(make(close, epochs=5)))
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("strategy")]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == count
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1 for box in boxes)


@pytest.mark.parametrize(("count", "lines"), [(6, 2), (7, 1)])
def test_many_strategies_have_a_validation_line_each_and_nothing_else(count: int, lines: int) -> None:
    axes = plots.accuracy_curves(
        parsed(make({f"mine {k}": [0.8, 0.9 - k / 100] for k in range(count)}, epochs=3))
    ).axes[0]
    marked = [line for line in axes.get_lines() if line.get_marker() not in ("None", "")]
    assert len(marked) == lines * count
    assert len(axes.collections) == (count if lines == 2 else 0)


def test_a_name_with_dollars_is_drawn_as_it_is(tmp_path: Path) -> None:
    results = make({r"$\frac$": [0.9], "_x^": [0.8]})
    results["data"]["source"] = results["model"]["name"] = r"$\bad{$"
    assert all(path.stat().st_size > 0 for path in plots.write(parsed(results), tmp_path / "curves.png"))


def test_both_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    results = parsed(make({**THREE, "</text> -- & <b>": [0.9]}))
    paths = plots.write(results, tmp_path / "curves.png")
    assert [path.name for path in paths] == ["curves.png", "curves.svg"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in plots.write(results, tmp_path / "curves.png")] == before
    root = ElementTree.fromstring(before[1])
    width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    assert width / height == pytest.approx(imread(paths[0]).shape[1] / imread(paths[0]).shape[0], rel=0.01)
    assert b"<dc:date>" not in before[1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_labels_move_as_little_as_possible(wanted: list[float]) -> None:
    gap = 0.1
    placed = plots.spread(wanted, gap, 0.0, 1.0)
    order = np.argsort(wanted, kind="stable")
    ordered, goal = placed[order], np.array(wanted)[order]
    assert np.all(np.diff(ordered) >= gap - 1e-9)
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 1 + 1e-9
    # The allowed places are a simplex; its corners pack the first k labels low and the others high. A point
    # of it is nearest to the goal exactly if no corner lies on the goal's side of it (projection theorem).
    low = gap * np.arange(len(goal))
    high = low + 1 - low[-1]
    for k in range(len(goal) + 1):
        corner = np.append(low[:k], high[k:])
        assert np.dot(goal - ordered, corner - ordered) <= 1e-9


def test_labels_that_cannot_all_fit_share_the_room() -> None:
    np.testing.assert_allclose(plots.spread([0.5] * 5, 1.0, 0.0, 1.0), np.linspace(0, 1, 5))
