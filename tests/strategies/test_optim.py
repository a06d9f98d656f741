"""Optimizers: schedules by closed forms, AdamW against PyTorch's, weight decay, clipping, and errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.strategies.optim import FROZEN, Plan, make_optimizer

PEAK = 3e-3
SHAPES = {
    "prompt/embedding": (5, 6),
    "score/kernel": (6, 3),
    "transformer/h/0/attn/c_attn/bias": (18,),
    "transformer/h/0/attn/c_attn/kernel": (6, 18),
    "transformer/ln_f/bias": (6,),
    "transformer/ln_f/scale": (6,),
    "transformer/wte/embedding": (11, 6),
}
MATRICES = {"score/kernel", "transformer/h/0/attn/c_attn/kernel", "transformer/wte/embedding"}


def plan(steps=40, **train):
    return Plan(steps=steps, steps_per_epoch=10, batch_size=8, layers=1, train=TrainConfig(**train))


def tree(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}


def run(optimizer, params, gradients):
    """Parameters after one update for each of the gradients."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def all_labelled(label, shapes=SHAPES):
    return dict.fromkeys(shapes, label)


# Schedules


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.25, 1.0])
def test_schedules(shape, warmup_fraction):
    steps = 40
    rate = plan(steps, schedule=shape, warmup_fraction=warmup_fraction).schedule(PEAK)
    warmup = round(warmup_fraction * steps)

    def expected(step):
        if step < warmup:
            return PEAK * step / warmup
        share = (step - warmup) / max(1, steps - warmup)
        return PEAK * {"constant": 1, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[shape]

    ours = [float(rate(step)) for step in range(steps + 1)]
    # Rates are float32: 1e-6 of the peak is a few roundings.
    np.testing.assert_allclose(ours, [expected(s) for s in range(steps + 1)], rtol=0, atol=1e-6 * PEAK)


def test_a_decaying_rate_ends_at_zero_and_never_turns_up():
    for shape in ("linear", "cosine"):
        rate = plan(17, schedule=shape, warmup_fraction=0.1).schedule(PEAK)
        assert abs(float(rate(17))) < 1e-6 * PEAK
        after = [float(rate(step)) for step in range(2, 18)]
        assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.5])
def test_a_rate_that_begins_later_is_the_runs_at_that_time(shape, warmup_fraction):
    ours = plan(40, schedule=shape, warmup_fraction=warmup_fraction)
    assert [float(ours.schedule(PEAK, begun=12)(step)) for step in range(29)] == [
        float(ours.schedule(PEAK)(step)) for step in range(12, 41)
    ]


# AdamW


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("shape", ["constant", "linear"])
def test_adamw_is_torchs(weight_decay, shape):
    ours_plan = plan(8, weight_decay=weight_decay, schedule=shape)
    first, gradients = tree(0), [tree(seed) for seed in range(1, 9)]
    labels = all_labelled("everything")
    _, optimizer = make_optimizer("ours", labels, {"everything": ours_plan.adamw(PEAK)}, ours_plan.clip())
    ours = run(optimizer, first, gradients)

    theirs = {path: torch.nn.Parameter(torch.tensor(value)) for path, value in first.items()}
    adamw = torch.optim.AdamW(theirs.values(), lr=PEAK, weight_decay=weight_decay)
    decay = {"constant": lambda step: 1.0, "linear": lambda step: 1 - step / 8}[shape]
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, decay)
    for gradient in gradients:
        for path, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[path])
        adamw.step()
        schedule.step()
    for path in SHAPES:
        # Eight updates, each rounded to half a unit of float32 at 4 (2.4e-7), twice; an update itself is 3e-3.
        np.testing.assert_allclose(ours[path], theirs[path].detach().numpy(), rtol=0, atol=4e-6, err_msg=path)


@pytest.mark.parametrize("mask", ["all", "matrices"])
def test_what_weight_decay_touches(mask):
    """Without gradients, only decay moves a leaf: by rate times decay of itself."""
    decaying = plan(weight_decay=0.5, weight_decay_mask=mask).adamw(PEAK)
    _, optimizer = make_optimizer("ours", all_labelled("everything"), {"everything": decaying})
    before = tree(0)
    after = run(optimizer, before, [jax.tree.map(np.zeros_like, before)])
    moved = {path for path in SHAPES if (np.asarray(after[path]) != before[path]).any()}
    assert moved == (set(SHAPES) if mask == "all" else MATRICES)
    for path in moved:
        np.testing.assert_allclose(after[path], before[path] * (1 - PEAK * 0.5), rtol=1e-6)


def test_clipping_counts_trained_gradients_only():
    clipped = plan(clip_norm=1.0)
    labels = {path: FROZEN if path.startswith("transformer/") else "head" for path in SHAPES}
    trainable, optimizer = make_optimizer("ours", labels, {"head": optax.sgd(1.0)}, clipped.clip())
    assert trainable == {"prompt/embedding", "score/kernel"}
    params = {path: value for path, value in tree(0).items() if path in trainable}
    gradient = {path: 10 * value for path, value in tree(1).items() if path in trainable}
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradient.values()))
    after = run(optimizer, params, [gradient])
    for path in trainable:
        np.testing.assert_allclose(params[path] - after[path], gradient[path] / norm, rtol=0, atol=1e-6)


def test_clipping_spans_all_labels_and_spares_small_gradients():
    labels = {"score/kernel": "a", "prompt/embedding": "b"}
    shapes = {path: SHAPES[path] for path in labels}
    each = {"a": optax.sgd(1.0), "b": optax.sgd(1.0)}
    _, optimizer = make_optimizer("ours", labels, each, plan(clip_norm=1.0).clip())
    params, gradient = tree(0, shapes), tree(1, shapes)
    moved = jax.tree.map(lambda a, b: a - b, params, run(optimizer, params, [gradient]))
    assert float(optax.tree.norm(moved)) == pytest.approx(1, rel=1e-5)
    small = jax.tree.map(lambda g: g / 100, gradient)
    assert float(optax.tree.norm(small)) < 1
    moved = jax.tree.map(lambda a, b: a - b, params, run(optimizer, params, [small]))
    jax.tree.map(lambda m, g: np.testing.assert_allclose(m, g, rtol=0, atol=1e-6), moved, small)


def test_frozen_leaves_have_no_optimizer_state():
    labels = {path: FROZEN if path.startswith("transformer/") else "head" for path in SHAPES}
    trainable, optimizer = make_optimizer("ours", labels, {"head": optax.adam(1.0)})
    state = optimizer.init({path: jnp.zeros(SHAPES[path]) for path in trainable})
    moments = sorted(leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert moments == sorted(2 * [SHAPES["prompt/embedding"], SHAPES["score/kernel"]])


def test_a_label_without_gradients_stays_as_it_is():
    """Labels that get gradients now and then do what each would alone, with these gradients only."""
    labels = {path: "body" if path.startswith("transformer/") else "head" for path in SHAPES}
    each = {"body": optax.adamw(0.1), "head": optax.adam(optax.linear_schedule(0.3, 0.0, 10))}
    _, optimizer = make_optimizer("ours", labels, each)
    params = first = tree(0)
    state, seen = optimizer.init(params), {"body": [], "head": []}
    for seed, learning in enumerate([["head"], ["head", "body"], ["body"], ["head"]], start=1):
        gradients = {path: value for path, value in tree(seed).items() if labels[path] in learning}
        updates, state = optimizer.update(gradients, state, {path: params[path] for path in gradients})
        assert set(updates) == set(gradients)
        params = {**params, **{path: params[path] + update for path, update in updates.items()}}
        for label in learning:
            seen[label].append({path: g for path, g in gradients.items() if labels[path] == label})
    for label, gradients in seen.items():
        alone = run(each[label], {path: value for path, value in first.items() if labels[path] == label}, gradients)
        for path, value in alone.items():
            np.testing.assert_array_equal(params[path], value, err_msg=path)


def test_a_label_may_be_frozen_by_its_transformation():
    labels = {path: "body" if path.startswith("transformer/") else "head" for path in SHAPES}
    trainable, _ = make_optimizer("ours", labels, {"body": "frozen", "head": optax.sgd(1.0)})
    assert trainable == {"prompt/embedding", "score/kernel"}


# Errors


def test_a_parameter_without_label_is_named():
    labels = {**all_labelled("everything"), "transformer/ln_f/bias": None, "score/kernel": None}
    with pytest.raises(UserError, match=r"^strategy mine: no label for score/kernel, transformer/ln_f/bias$"):
        make_optimizer("mine", labels, {"everything": optax.sgd(1.0)})


def test_a_label_without_transformation_is_named_with_the_nearest():
    labels = {**all_labelled("everything"), "score/kernel": "everythin"}
    with pytest.raises(UserError, match=r"label everythin \(of score/kernel\) has no .*Did you mean everything\?"):
        make_optimizer("mine", labels, {"everything": optax.sgd(1.0)})


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("transformer/h/0/attn/c_atn/kernel", r"Did you mean transformer/h/0/attn/c_attn/kernel"),
        ("zzz", r"Parameters are called prompt/embedding, score/kernel, transformer/h/0/attn/c_attn/bias and 4 more"),
    ],
)
def test_a_transformation_that_no_parameter_gets_is_named_with_near_paths(pattern, hint):
    with pytest.raises(UserError, match=rf"^strategy mine: {pattern} matches no parameter\. ?{hint}"):
        make_optimizer("mine", all_labelled("everything"), {"everything": optax.sgd(1.0), pattern: optax.sgd(1.0)})


@pytest.mark.parametrize("transforms", [{}, {"frozen": "frozen"}])
def test_a_strategy_that_trains_nothing_is_an_error(transforms):
    with pytest.raises(UserError, match=r"^strategy mine: every parameter is frozen"):
        make_optimizer("mine", all_labelled(FROZEN), transforms)


def test_errors_are_one_line():
    for labels in (all_labelled(None), all_labelled("nowhere"), all_labelled(FROZEN)):
        with pytest.raises(UserError) as raised:
            make_optimizer("mine", labels, {})
        assert "\n" not in str(raised.value)
