"""Closely is a few roundings of float32, for numbers alone; exactly is every byte."""

import numpy as np
import pytest

from support import exactness

TREE = {"weights": np.array([1.0, -0.25], np.float32), "step": np.int32(3), "lines": [{"skipped": True, "loss": 0.5}]}


def changed(**leaves):
    return {**TREE, **leaves}


@pytest.mark.parametrize(
    ("ours", "closely"),
    [
        (TREE, True),
        (changed(weights=np.nextafter(TREE["weights"], np.float32(9))), True),
        (changed(weights=np.array([1.0, -0.250004], np.float32)), False),
        (changed(weights=np.array([np.nan, -0.25], np.float32)), False),
        (changed(weights=TREE["weights"].astype(np.float64)), False),
        (changed(step=np.int32(4)), False),
        (changed(lines=[{"skipped": False, "loss": 0.5}]), False),
        (changed(lines=[]), False),
    ],
)
def test_only_last_bits_may_differ(monkeypatch, ours, closely):
    for optimized, passes in ((False, closely), (True, ours is TREE)):
        monkeypatch.setattr(exactness, "OPTIMIZED", optimized)
        try:
            exactness.assert_exactly_or_closely(ours, TREE)
        except AssertionError:
            assert not passes
        else:
            assert passes
