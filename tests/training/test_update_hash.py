"""What identifies a scheme: other updates at any step are another hash; written twice, it is the same."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from flax_agnews.strategies import REGISTRY, Stage, Strategy
from flax_agnews.training.update_hash import behaviour

SHAPES = {"a/kernel": (300, 200), "a/bias": (200,), "b/kernel": (200, 300), "b/bias": (300,), "score/kernel": (200, 4)}
STEPS = 40


def masked(names):
    return optax.adamw(1e-3, mask=lambda tree: {path: path in names for path in tree})


def only_rows(first):
    """Moves some rows of one parameter only: a mask of the parameter's own shape."""
    mask = np.zeros(SHAPES["a/kernel"])
    mask[first:] = 1
    return optax.chain(
        optax.sgd(0.1), optax.stateless(lambda u, _: {p: v * mask if p == "a/kernel" else v for p, v in u.items()})
    )


def rate_but_at(step, rate=1.0):
    return optax.sgd(lambda count: jnp.where(count == step, rate, 1.0))


def own_counter(factor):
    """Counts in floating point, in halves."""
    return optax.GradientTransformation(
        lambda params: {"half": jnp.float32(0)},
        lambda g, s, p=None: (
            {path: v * jnp.where(s["half"] > 9, factor, 1.0) for path, v in g.items()},
            {"half": s["half"] + 0.5},
        ),
    )


def clipped(norm):
    return optax.chain(optax.clip_by_global_norm(norm), optax.adam(1e-3))


PAIRS = {
    "rate": lambda: (optax.sgd(1e-3), optax.sgd(10.0)),
    "a little more": lambda: (optax.adam(1e-3), optax.adam(1.0001e-3)),
    "method": lambda: (optax.lion(1e-5), optax.sgd(1.0)),
    "weight decay": lambda: (optax.adamw(1e-3, weight_decay=1e-4), optax.adamw(1e-3, weight_decay=2e-4)),
    "no decay": lambda: (optax.adam(1e-3), optax.adamw(1e-3, weight_decay=1e-4)),
    "momentum": lambda: (optax.sgd(1.0, 0.9), optax.sgd(1.0, 0.9, nesterov=True)),
    "second moment": lambda: (optax.adam(1e-3, b2=0.999), optax.adam(1e-3, b2=0.9999)),
    "epsilon": lambda: (optax.adam(1e-3), optax.adam(1e-3, eps=1e-6)),
    "clip": lambda: (clipped(1.0), clipped(2.0)),
    "a high clip": lambda: (clipped(500.0), clipped(1000.0)),
    "no clip": lambda: (clipped(1.0), optax.adam(1e-3)),
    "clip of values": lambda: (optax.chain(optax.clip(c), optax.sgd(1.0)) for c in (0.5, 0.6)),
    "end of a schedule": lambda: (optax.adam(optax.linear_schedule(1e-3, end, STEPS - 1)) for end in (0.0, 1e-5)),
    "warm-up": lambda: (optax.adam(optax.warmup_cosine_decay_schedule(0, 1e-3, w, STEPS)) for w in (4, 5)),
    "one late step": lambda: (rate_but_at(31, 1.5), optax.sgd(1.0)),
    "the last step": lambda: (rate_but_at(STEPS - 1, 1.01), optax.sgd(1.0)),
    "a counter of its own": lambda: (own_counter(1.0), own_counter(1.1)),
    "the mask's layers": lambda: (masked({"a/kernel"}), masked({"b/kernel"})),
    "the mask's kinds": lambda: (masked({"a/kernel", "b/kernel"}), masked({"a/bias", "b/bias"})),
    "rows of a parameter": lambda: (only_rows(100), only_rows(101)),
    "factors": lambda: (optax.adafactor(1e-3, min_dim_size_to_factor=n) for n in (128, 256)),
    "micro steps": lambda: (optax.MultiSteps(optax.sgd(1.0), n).gradient_transformation() for n in (2, 3)),
    "noise": lambda: (optax.chain(optax.add_noise(0.1, 0.5, seed), optax.sgd(1.0)) for seed in (0, 1)),
    "trust ratio": lambda: (optax.lamb(1e-3), optax.lars(1e-3)),
    "injected": lambda: (optax.inject_hyperparams(optax.adam)(learning_rate=r) for r in (1e-3, 2e-3)),
    "hidden state": lambda: (optax.apply_if_finite(optax.adam(r), 5) for r in (1e-3, 2e-3)),
}


@pytest.mark.parametrize("what", PAIRS)
def test_schemes_that_differ_have_other_hashes_and_each_has_its_own_again(what):
    first, second = PAIRS[what]()
    ones, others = behaviour(first, SHAPES, STEPS), behaviour(second, SHAPES, STEPS)
    assert ones != others
    again = PAIRS[what]()
    assert [behaviour(transformation, SHAPES, STEPS) for transformation in again] == [ones, others]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, STEPS + 5), st.sampled_from([0.0, 0.9, 1.02, -1.0]))
def test_a_rate_that_differs_in_one_step_is_seen_exactly_where_the_run_comes_to_it(step, rate):
    same = behaviour(rate_but_at(step, rate), SHAPES, STEPS) == behaviour(rate_but_at(-1), SHAPES, STEPS)
    assert same == (step >= STEPS)


@pytest.mark.parametrize("steps", [1, 2, 7, 8192, 100_000])
def test_the_first_and_the_last_step_of_any_plan_are_seen(steps):
    def scheme(first, last):
        return optax.sgd(lambda n: jnp.where(n == 0, first, jnp.where(n == steps - 1, last, 0.5)))

    shapes = {"score/kernel": (8, 4)}
    plain = behaviour(scheme(1.0, 2.0), shapes, steps)
    assert behaviour(scheme(1.0, 2.0), shapes, steps) == plain
    assert behaviour(scheme(1.1, 2.0), shapes, steps) != plain
    assert (behaviour(scheme(1.0, 2.1), shapes, steps) != plain) == (steps > 1)


def test_a_shape_counts_where_the_state_or_the_update_has_it():
    other = {**SHAPES, "a/bias": (201,)}
    assert behaviour(optax.adam(1e-3), SHAPES, STEPS) != behaviour(optax.adam(1e-3), other, STEPS)
    renamed = {path.replace("a/", "c/"): shape for path, shape in SHAPES.items()}
    assert behaviour(optax.sgd(1e-3), SHAPES, STEPS) != behaviour(optax.sgd(1e-3), renamed, STEPS)


PROGRAM = """
import optax
from flax_agnews.training.update_hash import behaviour
scheme = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, 40), mask=lambda t:
    {p: v.ndim > 1 for p, v in t.items()}))
print(behaviour(scheme, %r, 40))
"""


def test_another_process_finds_the_same():
    root = Path(__file__).resolve().parents[2]
    run = [sys.executable, "-c", PROGRAM % SHAPES]
    first, second = (subprocess.run(run, cwd=root, capture_output=True, text=True, check=True).stdout for _ in range(2))
    scheme = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(1e-3, 40), mask=lambda tree: {p: v.ndim > 1 for p, v in tree.items()}),
    )
    assert first == second
    assert first.strip() == behaviour(scheme, SHAPES, 40)


# Strategies


def updates(strategy, steps=20, **train):
    setup = tiny.prepare(strategy, steps=steps, **train)
    return behaviour(setup.optimizer, {path: setup.model.shapes[path] for path in setup.trainable}, steps)


@pytest.mark.parametrize("name", tiny.original_first())
def test_a_registered_strategy_is_itself_and_its_rates_count(name):
    plain = updates(name)
    assert updates(name) == plain
    faster = tiny.build(name, learning_rate=2 * REGISTRY[name].settings().learning_rate)
    changed = [updates(faster), updates(name, weight_decay=0.02), updates(name, clip_norm=0.1)]
    changed += [updates(name, schedule="cosine"), updates(name, schedule="linear"), updates(name, warmup_fraction=0.1)]
    assert plain not in changed
    assert len(set(changed)) == len(changed)


def test_around_counts():
    def scheme(norm):
        return Strategy.by_pattern("mine", {".*": optax.sgd(1.0)}, around=lambda plan: optax.clip_by_global_norm(norm))

    assert updates(scheme(1.0)) == updates(scheme(1.0)) != updates(scheme(2.0))


def test_labels_of_later_stages_count():
    def scheme(rate):
        stages = [Stage(0, ["score"]), Stage(1, ["score", ".*"])]
        return Strategy.by_pattern("mine", {"score": optax.sgd(1.0), ".*": optax.sgd(rate)}, stages=stages)

    assert updates(scheme(1.0)) == updates(scheme(1.0)) != updates(scheme(2.0))


def test_a_factor_on_the_rates_is_apart_from_what_a_scheme_is():
    """The search's factor has an entry of its own, so that the scheme of a run is that of its trials."""
    setup = tiny.prepare("full")
    shapes = {path: setup.model.shapes[path] for path in setup.trainable}
    plain = behaviour(setup.optimizer, shapes, 20)
    labels = setup.model.labels
    assert setup.at(3.0).model.strategy.fingerprint(labels) == setup.model.strategy.fingerprint(labels)
    assert behaviour(setup.at(3.0).optimizer, shapes, 20) != plain
