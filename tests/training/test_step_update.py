"""The update step: by branch and by selection, against optax; passes over the gradients, and bytes that it moves."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import tiny
from support.exactness import assert_same_bytes

from flax_agnews.strategies import Strategy
from flax_agnews.training.state import TrainState
from flax_agnews.training.step import make_update_step, skips_by_branch, vmapped

WAYS = {"branch": True, "selection": False}
BIG = "score/kernel"


def setup(clip_norm=None):
    return tiny.prepare("head", clip_norm=clip_norm, warmup_fraction=0.0)


def numbers(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def results(ours, seed, weight=3.0):
    sums = {"loss": jnp.float32(7), "weight": jnp.float32(weight)}
    return sums, {path: numbers(shape, seed) for path, shape in ours.trainable_shapes.items()}


def begun(ours, seed=1):
    """A state after one update, so that the optimizer's state isn't zero."""
    params = {path: numbers(shape, seed) for path, shape in ours.trainable_shapes.items()}
    start = TrainState(params, ours.optimizer.init(params), jnp.uint32(0), jnp.uint32(0))
    return jax.jit(make_update_step(ours))(start, (), results(ours, 2))[0]


def by_optax(state, given, clip_norm):
    """The parameters after optax's own AdamW with its own clipping."""
    sums, summed = given
    theirs = optax.adamw(tiny.REGISTRY["head"].settings().learning_rate, weight_decay=0.01)
    inner = state.opt_state[1] if isinstance(state.opt_state, tuple) else state.opt_state
    grads = {path: value / sums["weight"] for path, value in summed.items()}
    if clip_norm:
        grads, _ = optax.clip_by_global_norm(clip_norm).update(grads, optax.EmptyState())
    [own] = inner.values()
    updates, _ = theirs.update(grads, own, state.params)
    return optax.apply_updates(state.params, updates), optax.tree.norm(grads)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clip_norm", [None, 0.1, 1e3])
def test_a_finite_update_is_optaxs(way, clip_norm):
    ours = setup(clip_norm)
    state, given = begun(ours), results(ours, 3)
    after, metrics = jax.jit(make_update_step(ours, by_branch=WAYS[way]))(state, (), given)
    expected, norm = by_optax(state, given, clip_norm)
    assert not metrics["skipped"]
    assert after.step == state.step + 1
    if clip_norm != 0.1:
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-6)
    for path, value in expected.items():
        np.testing.assert_allclose(after.params[path], value, rtol=1e-6, atol=1e-8)
        assert np.abs(after.params[path] - state.params[path]).max() > 1e-5


def spoilt(given, how):
    sums, summed = given
    if how == "loss":
        return {**sums, "loss": jnp.float32(np.nan)}, summed
    return sums, {**summed, BIG: summed[BIG].at[0, 0].set({"infinite": np.inf, "nan": np.nan}[how])}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["loss", "infinite", "nan"])
def test_an_update_that_is_not_finite_changes_the_step_alone(way, how):
    ours = setup(1.0)
    state = begun(ours)
    after, metrics = jax.jit(make_update_step(ours, by_branch=WAYS[way]))(state, (), spoilt(results(ours, 3), how))
    assert metrics["skipped"]
    assert after.step == state.step + 1
    assert_same_bytes((after.params, after.opt_state), (state.params, state.opt_state))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", [(), (0,), (1,), (0, 1)], ids=str)
def test_runs_that_train_together_are_updated_each_for_itself(way, bad):
    ours = setup(0.1)
    states = [begun(ours, seed) for seed in (1, 5)]
    given = [spoilt(results(ours, 3 + n), "infinite") if n in bad else results(ours, 3 + n) for n in (0, 1)]
    together = jax.jit(vmapped(make_update_step(ours, True, WAYS[way]), ()))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    both, metrics = together(stacked, (), jax.tree.map(lambda *leaves: jnp.stack(leaves), *given))
    assert list(np.flatnonzero(metrics["skipped"])) == list(bad)
    for number in (0, 1):
        alone, _ = jax.jit(make_update_step(ours))(states[number], (), given[number])
        for one, own in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one[number], own, rtol=1e-6)


def test_only_a_cpu_takes_the_branch():
    assert {platform: skips_by_branch(platform) for platform in ("cpu", "gpu", "tpu")} == {
        "cpu": True,
        "gpu": False,
        "tpu": False,
    }


@pytest.mark.parametrize("weight", [1.0, 3.0, 7.0, 8.0, 511.0, 512.0, 26_701.0])
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_divided_by_the_weight_within_a_rounding(way, weight):
    ours = tiny.prepare(Strategy.by_pattern("mine", {"^score/": optax.sgd(1.0), "": "frozen"}))
    sums, summed = results(ours, 3, weight)
    zeros = jax.tree.map(jnp.zeros_like, summed)
    start = TrainState(zeros, ours.optimizer.init(zeros), jnp.uint32(0), jnp.uint32(0))
    after, metrics = jax.jit(make_update_step(ours, by_branch=WAYS[way]))(start, (), (sums, summed))
    for path, value in summed.items():
        exact = -np.asarray(value, np.float64) / weight
        np.testing.assert_allclose(after.params[path], exact, rtol=2.0**-23)
    exact = np.sqrt(sum(np.square(np.asarray(value, np.float64)).sum() for value in summed.values())) / weight
    np.testing.assert_allclose(metrics["grad_norm"], exact, rtol=1e-6)


# Passes and bytes

LEAVES = {BIG: (2048, 512), "transformer/wte/embedding": (512, 1024)}  # beside which the scalars are nothing


def lowered(clip_norm, by_branch, platform):
    ours = tiny.prepare("full", clip_norm=clip_norm)
    leaf = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in LEAVES.items()}
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    count = jax.ShapeDtypeStruct((), jnp.uint32)
    state = TrainState(leaf, jax.eval_shape(ours.optimizer.init, leaf), count, count)
    step = jax.jit(make_update_step(ours, by_branch=by_branch), donate_argnums=0)
    return step.trace(state, (), ({"loss": scalar, "weight": scalar}, leaf)).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(("platform", "other"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_gradients_are_summed_over_once(platform, other, clip_norm):
    """The global norm alone, which clipping uses as well; and there is no branch on a GPU."""
    program = lowered(clip_norm, skips_by_branch(other), platform).as_text()
    for rows, columns in LEAVES.values():
        assert len(re.findall(rf"stablehlo\.reduce\(.*tensor<{rows}x{columns}xf32>", program)) == 1
    assert ("stablehlo.case" in program or "stablehlo.if" in program) == (platform == "cpu")
    scopes = lowered(clip_norm, skips_by_branch(other), platform).as_text(debug_info=True)
    assert "norm_of_gradients/" in scopes
    assert "update/" in scopes


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_an_update_on_a_cpu_moves_each_number_once_for_what_it_is_needed(clip_norm):
    """Without fusions of several results: both moments from gradient and moment, parameters from all; and the norm.

    A CPU also writes the quotients of gradients and weight, which two fusions read: to XLA, a division is too dear
    there to be done twice. One fusion of all, as on a GPU, would read four numbers and write three.
    """
    compiled, size = lowered(clip_norm, True, "cpu").compile(), 4 * sum(map(math.prod, LEAVES.values()))
    moments, parameters, norm, quotients = 2 * (2 + 1), 3 + 1, 1, 1 + 1
    moved = compiled.cost_analysis()["bytes accessed"] / size
    assert moved == pytest.approx(moments + parameters + norm + quotients, abs=0.01)
