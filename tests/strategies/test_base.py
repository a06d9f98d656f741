"""Strategies of one's own: patterns over parameter paths, stages, and the registry."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import tiny
from support.outside_strategy import BiasSettings, biases

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies import ALL, REGISTRY, Entry, Registry, Stage, Strategy, chosen, layers
from flax_agnews.strategies.optim import FROZEN, Plan
from flax_agnews.training.state import set_up


def abstract(strategy):
    """The strategy set up on the tiny body's shapes."""
    plan = Plan(10, 10, 8, tiny.CONFIG.n_layer, TrainConfig())
    return set_up(strategy, Base("shapes only", tiny.CONFIG, {}), 4, plan, ModelConfig(), max_length=8)


# Patterns


def test_the_first_pattern_that_matches_wins():
    strategy = Strategy.by_pattern(
        "mine",
        {r"transformer/h/[01]/": "frozen", r"/h/\d+/attn": optax.sgd(2.0), "kernel": optax.sgd(3.0), ".*": "frozen"},
    )
    setup = abstract(strategy)
    labels = setup.model.labels
    assert labels["transformer/h/1/attn/c_attn/kernel"] == "transformer/h/[01]/"
    assert labels["transformer/h/2/attn/c_attn/kernel"] == r"/h/\d+/attn"
    assert labels["transformer/h/2/mlp/c_fc/kernel"] == labels["score/kernel"] == "kernel"
    assert labels["transformer/h/2/mlp/c_fc/bias"] == ".*"
    expected = {"score/kernel", *(f"transformer/h/2/mlp/{m}/kernel" for m in ("c_fc", "c_proj"))}
    attention = {f"transformer/h/2/attn/{m}/{leaf}" for m in ("c_attn", "c_proj") for leaf in ("kernel", "bias")}
    assert setup.trainable == expected | attention
    params = {path: jnp.ones(setup.model.shapes[path]) for path in setup.trainable}
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    assert {path: float(np.ravel(u)[0]) for path, u in updates.items()} == {
        path: -2.0 if path in attention else -3.0 for path in setup.trainable
    }


def test_a_pattern_may_wait_for_the_plan():
    plans = []

    def decaying(plan):
        plans.append(plan)
        return optax.sgd(plan.schedule(1.0))

    abstract(Strategy.by_pattern("mine", {"score": decaying, "": FROZEN}))
    assert [plan.steps for plan in plans] == [10]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"(": optax.sgd(1.0)}, r"^strategy mine: \( is no regular expression \(.*\)$"),
        ({"score": optax.sgd(1.0)}, r"^strategy mine: no label for transformer/h/0/attn/c_attn/bias, .* and \d+ more$"),
        ({"": optax.sgd(1.0), "score/kernl": "frozen"}, r"^strategy mine: score/kernl .*Did you mean score/kernel\?$"),
        ({".*": "frozen"}, r"^strategy mine: every parameter is frozen"),
        ({".*": 1e-3}, r'^strategy mine: \.\*: 0\.001 is neither "frozen" nor an optax transformation$'),
        ({".*": lambda plan: plan.schedule}, r'^strategy mine: \.\*: .* is neither "frozen" nor an optax transform'),
    ],
)
def test_wrong_patterns_say_what_is_wrong(patterns, message):
    with pytest.raises(UserError, match=message) as raised:
        abstract(Strategy.by_pattern("mine", patterns))
    assert "\n" not in str(raised.value)


def test_a_range_of_layers_is_a_pattern():
    config = replace(tiny.CONFIG, n_layer=13)
    plan = Plan(10, 10, 8, 13, TrainConfig())
    strategy = Strategy.by_pattern("mine", {layers(1, 12): optax.sgd(1.0), "": "frozen"})
    setup = set_up(strategy, Base("shapes only", config, {}), 4, plan, ModelConfig(), max_length=8)
    assert {path.split("/")[2] for path in setup.trainable} == {str(layer) for layer in range(1, 12)}
    assert len(setup.trainable) == 11 * len([path for path in setup.model.shapes if "/h/0/" in path])


@pytest.mark.parametrize(("first", "end"), [(3, 3), (4, 2), (-1, 2)])
def test_an_empty_range_of_layers_is_an_error(first, end):
    with pytest.raises(UserError, match=rf"^layers\({first}, {end}\): holds no layer"):
        layers(first, end)


# Stages

SOME = {"score": optax.sgd(1.0), "/h/2/": optax.sgd(2.0), "": "frozen"}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(1, ["score"])], r"its stages begin at epochs 1; must be 0, then ascending$"),
        ([(0, ["score"]), (2, ["/h/2/"]), (2, ["score"])], r"its stages begin at epochs 0, 2, 2; must be 0"),
        ([(0, ["score"]), (1, ["/h/2"])], r"the stage from epoch 1 trains /h/2, no label that trains\. .*mean /h/2/"),
        ([(0, ["score", ""])], r"the stage from epoch 0 trains , no label that trains"),
        ([(0, ["score"]), (1, [])], r"the stage from epoch 1 trains nothing$"),
        ([(0, ["score"])], r"no stage trains /h/2/$"),
    ],
)
def test_wrong_stages_say_what_is_wrong(stages, message):
    strategy = Strategy.by_pattern("mine", SOME, stages=[Stage(*stage) for stage in stages])
    with pytest.raises(UserError, match=f"^strategy mine: {message}"):
        abstract(strategy)


def test_a_whole_updates_state_can_not_mirror_what_trains_in_stages():
    stages = [Stage(0, ["score"]), Stage(1, ["/h/2/"])]

    def around_with(transformation):
        strategy = Strategy.by_pattern("mine", SOME, around=lambda plan: transformation, stages=stages)
        plan = Plan(20, 10, 8, tiny.CONFIG.n_layer, TrainConfig())
        return set_up(strategy, Base("shapes only", tiny.CONFIG, {}), 4, plan, ModelConfig(), max_length=8)

    around_with(optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_schedule(lambda count: 1.0)))
    with pytest.raises(UserError, match=r"^strategy mine: with stages, .*`around` must keep no state"):
        around_with(optax.trace(0.9))


# Registry


def test_names_become_entries():
    assert [e.name for e in chosen("all")] == list(ALL)
    assert [e.name for e in chosen("prompt,full")] == ["prompt", "full"]
    assert [e.name for e in chosen(" partial , partial,full")] == ["partial", "full"]
    assert [e.name for e in chosen("prompt,all")] == ["prompt", *(name for name in ALL if name != "prompt")]
    assert [e.name for e in chosen("every")] == list(tiny.STRATEGIES)
    assert [e.name for e in chosen("partial,every")][:2] == ["partial", tiny.STRATEGIES[0]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ful", r"^strategy ful: no such strategy\. Did you mean full\?$"),
        ("full,promt", r"^strategy promt: no such strategy\. Did you mean prompt"),
        ("zzz", r"^strategy zzz: no such strategy\. Known: .*all, .*every, .*full"),
        ("", r"^strategy : no such strategy\. Known: .*all, .*every, .*full"),
        (",", r"^strategy ,: no such strategy\. Known: .*all, .*every, .*full"),
    ],
)
def test_an_unknown_name_gets_a_hint(names, message):
    with pytest.raises(UserError, match=message):
        chosen(names)


def test_a_taken_name_is_an_error():
    registry = Registry(*REGISTRY)
    registry.add(Entry("biases", BiasSettings, biases, "biases and head"))
    with pytest.raises(UserError, match=r"^strategy biases: the name is taken$"):
        registry.add(Entry("biases", BiasSettings, biases, "biases and head"))


# Strategies from outside the package
