"""Whether two programs that compute the same give the same bytes, as far as the tests' way to compile keeps them."""

import os
from typing import Any

import jax
import numpy as np

from support.bounds import BOUNDS

OPTIMIZED = os.environ.get("TESTS_OPTIMIZED") == "1"
"""Whether programs are compiled as for users (`tests/conftest.py`)."""


def assert_same_bytes(ours: Any, theirs: Any) -> None:
    """Every leaf of two trees, to the byte."""
    for name, leaf, other in _pairs(ours, theirs):
        assert leaf.tobytes() == other.tobytes(), name


def assert_exactly_or_closely(ours: Any, theirs: Any) -> None:
    """To the byte where programs are compiled as for users; else numbers may differ in their last bits.

    For tests that are marked `optimized`, which `.ci/run` repeats so compiled.
    """
    if OPTIMIZED:
        assert_same_bytes(ours, theirs)
        return
    for name, leaf, other in _pairs(ours, theirs):
        if not np.issubdtype(other.dtype, np.floating):
            assert np.array_equal(leaf, other), name
            continue
        largest = np.abs(other).max(initial=0)
        np.testing.assert_allclose(leaf, other, rtol=0, atol=BOUNDS["compiled"] * largest, err_msg=name)


def _pairs(ours: Any, theirs: Any) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(path, leaf, its counterpart) of two trees of the same structure."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    leaves = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    found = [(jax.tree_util.keystr(path), np.asarray(leaf), np.asarray(other)) for (path, leaf), other in leaves]
    for name, leaf, other in found:
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype), name
    return found
