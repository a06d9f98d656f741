"""Clipping against the closed form in float64 and optax's, and which norm it uses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_agnews.strategies.clip import KnownNorm, clip_by_global_norm
from flax_agnews.strategies.optim import make_optimizer, paced

ROUNDING = 2.0**-23  # of the factor and of the product, half each


def gradients(seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in {"a": (7, 5), "b": 9}.items()}


def exact_norm(tree):
    return float(np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(tree))))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99, 1.01, 30.0])
def test_gradients_are_scaled_down_to_the_largest_norm(share):
    given, largest = gradients(), share * exact_norm(gradients())
    known = KnownNorm(given, jnp.float32(exact_norm(given)))
    ours, _ = clip_by_global_norm(largest).update(given, optax.EmptyState(), known_norm=known)
    theirs, _ = optax.clip_by_global_norm(largest).update(given, optax.EmptyState())
    for name, value in given.items():
        expected = np.asarray(value, np.float64) * min(1.0, share)
        # The norm and the largest norm are rounded to float32 too, half a rounding each.
        np.testing.assert_allclose(ours[name], expected, rtol=2 * ROUNDING)
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2 * ROUNDING)
        assert share < 1 or ours[name].tobytes() == value.tobytes()


def clipped_as_if_known(transformation, given, shown):
    """Updates where the norm of `shown` is said to be 10."""
    updates, _ = transformation.update(
        given, transformation.init(given), given, known_norm=KnownNorm(shown, jnp.float32(10))
    )
    return updates


def in_an_optimizer(clip):
    _, optimizer = make_optimizer("ours", dict.fromkeys(gradients(), "all"), {"all": optax.sgd(1.0)}, clip)
    return optimizer


@pytest.mark.parametrize(
    "wrapped",
    [lambda clip: optax.chain(clip, optax.sgd(1.0)), in_an_optimizer, lambda c: paced(in_an_optimizer(c), 1, 1)],
)
def test_a_known_norm_is_used_through_all_that_is_around(wrapped):
    given = gradients()
    updates = clipped_as_if_known(wrapped(clip_by_global_norm(2.0)), given, dict(given))
    for name, value in given.items():
        np.testing.assert_allclose(updates[name], -0.2 * value, rtol=2 * ROUNDING)


@pytest.mark.parametrize("case", ["changed before", "some of them", "other arrays"])
def test_a_norm_of_other_gradients_is_not_used(case):
    given, transformation = gradients(), clip_by_global_norm(2.0)
    shown = given
    if case == "changed before":
        transformation = optax.chain(optax.clip(0.5), transformation)
    elif case == "some of them":
        given = {"a": given["a"]}
    else:
        shown = {name: jnp.array(value, copy=True) for name, value in given.items()}
    assert exact_norm(clipped_as_if_known(transformation, given, shown)) == pytest.approx(2.0, rel=1e-6)
