"""The table of bounds and exclusions for comparing two ways to compute the same, in float32 on the CPU."""

from collections.abc import Mapping
from typing import Any

import numpy as np

BOUNDS = {
    "leaf": 1e-5,  # norm of the difference, in norms of the leaf: a few roundings of float32 (6e-8) times sqrt(terms)
    "logits": 1e-5,  # largest difference, in units of the largest logit (or of a usual one: `assert_same_logits`)
    "losses": 1e-4,  # relative, over 20 steps: Adam's division by small second moments amplifies roundings
    "compiled": 1e-6,  # largest difference, in units of the leaf's largest number: eight roundings of float32, of
    # programs whose sums the quick tests' compiler may order otherwise (`support.exactness`)
    "hugging_face": 2e-5,  # largest difference of hidden states and logits at full size, absolute
}

KEY_BIAS = "attn/c_attn/bias"
"""Its middle third, the keys' bias, shifts all scores of a query alike, so its true gradient is zero and what is
computed is rounding noise: excluded from gradient comparisons."""


def without_exclusions(path: str, gradient: Any) -> np.ndarray:
    """A leaf's gradient as a flat float64 array, without the numbers that are rounding noise."""
    array = np.asarray(gradient, np.float64).ravel()
    if not path.endswith(KEY_BIAS):
        return array
    third = array.size // 3
    return np.concatenate([array[:third], array[2 * third :]])


def leaf_errors(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """Path -> norm of the difference, in norms of the reference's leaf (where that is zero: the norm of ours)."""
    assert set(ours) == set(reference), set(ours) ^ set(reference)
    errors = {}
    for path in reference:
        a, b = without_exclusions(path, ours[path]), without_exclusions(path, reference[path])
        assert a.shape == b.shape, path
        errors[path] = float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))
    return errors


def assert_same_leaves(ours: Mapping[str, Any], reference: Mapping[str, Any], bound: float = BOUNDS["leaf"]) -> None:
    """Every leaf within the leaf bound; tells the worst ones."""
    errors = leaf_errors(ours, reference)
    wrong = {p: e for p, e in sorted(errors.items(), key=lambda item: -item[1]) if not e <= bound}
    assert not wrong, f"above {bound:g} of the leaf's norm: " + ", ".join(f"{p} {e:.1e}" for p, e in wrong.items())


def assert_same_logits(ours: Any, reference: Any, kernel: Any = None) -> None:
    """Within the logits' bound of the reference's largest.

    The few logits of one text can all be small by chance, while what is rounded are the terms that they sum: the
    classifier's `kernel` ([features, classes]), where given, says how large a usual logit is. The last layer norm
    makes features of variance one, so a logit's standard deviation is the norm of its column.
    """
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    usual = 0.0 if kernel is None else np.linalg.norm(np.asarray(kernel, np.float64), axis=0).max()
    error = np.abs(ours - reference).max() / max(np.abs(reference).max(), usual)
    assert error <= BOUNDS["logits"], f"logits differ by {error:.1e} of the largest"


def assert_same_losses(ours: Any, reference: Any) -> None:
    """Each loss within its bound of the reference."""
    np.testing.assert_allclose(ours, reference, rtol=BOUNDS["losses"], atol=0)
