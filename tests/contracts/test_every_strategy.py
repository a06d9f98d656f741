"""What every registered strategy keeps: logits, gradients, what trains, micro-batches; against the naive way."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import naive, tiny
from support.bounds import assert_same_leaves, assert_same_logits, assert_same_losses
from support.strategy_setups import BODY, RATES, SPLIT, doubles, gradients_of, setup_of, shared

from flax_agnews.data.batches import EvalBatches
from flax_agnews.data.shapes import Price
from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.dropout import Noise
from flax_agnews.strategies import ALL
from flax_agnews.training.state import create_state
from flax_agnews.training.step import classification_loss

SEED, STEP = 3, 5
SHAPE = tiny.even(blocks=16, slots=8, lookback=5)  # one for all drawn lengths: compiled once a model

ONE_SHAPE = Price(compiling=1e6, block=1.0, passes=1)

every_strategy = pytest.mark.parametrize("name", tiny.STRATEGIES)


def begin(setup):
    """(trained, frozen) of a run in which what a strategy adds has moved: at first it often changes nothing."""
    state, frozen = create_state(setup, shared(setup), SEED)
    rng = np.random.default_rng(SEED)
    moves = {
        p: 0.1 * rng.standard_normal(v.shape) for p, v in state.params.items() if p not in setup.model.base.parameters
    }
    return {path: jnp.float32(value + moves.get(path, 0)) for path, value in state.params.items()}, frozen


def naive_draws(noisy):
    """The naive way's dropout."""
    everywhere = (True,) * (1 + BODY.n_layer)
    return naive.Draws(SEED, STEP, RATES, everywhere, lora=tiny.LORA_DROPOUT) if noisy else None


def is_naive(name):
    """Whether the naive model knows all of a strategy's parameters: body, prompt and head."""
    return all(p.startswith(("transformer/", "prompt/", "score/")) for p in setup_of(name).model.frame.shapes)


KNOWN_TO_NAIVE = [name for name in tiny.STRATEGIES if is_naive(name)]
MODELS = [name for name in tiny.one_of_each("model") if name in KNOWN_TO_NAIVE]
GRADIENTS = [name for name in tiny.one_of_each("model", "trainable") if name in KNOWN_TO_NAIVE]


# 1 and 10: any packing gives each text the logits that it has alone


@cache
def packed(name, noisy):
    """(weights, their float64 copies, a compiled function of a batch in `SHAPE`, the naive way's dropout)."""
    setup = setup_of(name, frozen_noise=True)
    params, frozen = begin(setup)
    noise = Noise(jnp.uint32(SEED), jnp.uint32(STEP), setup.rates) if noisy else None
    weights = {**params, **frozen}
    forward = jax.jit(lambda weights, batch: setup.model.frame.merge(weights)(batch, noise))
    return weights, doubles(weights), forward, naive_draws(noisy)


def drawn_lengths(lengths):
    """The lengths, as far as they fit the shape."""
    return [n for n, end in zip(lengths, np.cumsum(lengths), strict=True) if end <= SHAPE.tokens]


@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@example([1])
@example([tiny.LONGEST])
@example([63, tiny.LONGEST, 1, tiny.LONGEST, 1, 1, 64, 65])
@given(st.lists(st.integers(1, tiny.LONGEST), min_size=1, max_size=8))
def test_a_text_has_the_logits_that_it_has_alone(name, noisy, lengths):
    weights, exact, forward, draws = packed(name, noisy)
    split = tiny.random_split(drawn_lengths(lengths), seed=sum(lengths))
    order = np.random.default_rng(len(lengths)).permutation(len(split))
    batch = tiny.whole(split, order, SHAPE)
    ours = tiny.by_number(forward(weights, batch), batch)
    alone = [naive.logits(exact, split.tokens[row], BODY, draws, number) for number, row in enumerate(order)]
    assert_same_logits(ours, alone, exact["score/kernel"])


# 3 and 10: a soft prompt computed once is one copy a text; and every gradient is the naive one


@pytest.mark.optimized
@pytest.mark.parametrize(("name", "noisy"), [("prompt", False), *((name, True) for name in GRADIENTS)], ids=str)
def test_gradients_are_those_of_texts_alone(name, noisy):
    setup = setup_of(name, frozen_noise=True)
    split = tiny.random_split([70, 12], seed=2)
    trained, frozen = begin(setup)
    draws = naive_draws(noisy)

    def ours(params, batch):
        noise = Noise(jnp.uint32(SEED), jnp.uint32(STEP), setup.rates) if noisy else None
        return classification_loss(setup.model.frame.merge({**frozen, **params}), batch, noise, FLOAT32)["loss"]

    gradient = jax.jit(jax.grad(ours))(trained, tiny.whole(split, range(2), tiny.even(blocks=4, slots=2, lookback=3)))
    exact = {path: torch.tensor(value) for path, value in doubles({**frozen, **trained}).items()}
    learning = {path: exact[path].requires_grad_() for path in trained}
    for number in range(len(split)):
        scores = naive.logits(exact, split.tokens[number], BODY, draws, number, xp=torch)
        (-torch.log_softmax(scores, -1)[split.labels[number]]).backward()
    assert_same_leaves(gradient, {path: value.grad for path, value in learning.items()})


# 6: what is frozen and what trains


@every_strategy
def test_frozen_parameters_stay_and_trained_ones_all_learn(name):
    setup = setup_of(name)  # with weight decay, which must not reach what is frozen
    split = tiny.random_split(tiny.random_lengths(20, longest=60))
    evaluated = EvalBatches(split.tokens, split.labels, 7, devices=1, micro_batch_tokens=48, price=ONE_SHAPE)
    program = tiny.training(setup, SPLIT, tiny.devices(), evaluated={"test": evaluated}, epochs=4)
    body = setup.model.base.parameters
    state, frozen = program.start(0)
    assert set(state.params) == setup.trainable
    assert set(frozen) == set(setup.model.shapes) - setup.trainable
    starts = [span.first for span in setup.spans] or [0]
    for epoch, stage in zip(starts, setup.stages, strict=True):
        before = {path: np.array(value) for path, value in {**state.params, **frozen}.items()}
        for step in range(3):
            state, _ = program.train_step(state, frozen, 0, epoch, step)
        for path, value in {**state.params, **frozen}.items():
            same = np.asarray(value).tobytes() == before[path].tobytes()
            assert same == (path not in stage.learning), path
        _, gradients = gradients_of(program, state, frozen, epoch=epoch)
        norms = {path: float(np.linalg.norm(g)) for path, g in gradients.items()}
        assert set(norms) == stage.learning
        assert [path for path, norm in norms.items() if norm == 0] == []
    assert frozenset().union(*(stage.learning for stage in setup.stages)) == setup.trainable
    # The body on the device is what it was, though trained leaves were given away at every step.
    for path, value in program.shared.items():
        assert np.asarray(value).tobytes() == body[path].tobytes(), path
    assert_only_trained(state.opt_state, setup)
    assert_sizes_of(state, frozen, setup, body)
    assert_evaluates_like_texts_alone(program, state, frozen, split)


def assert_evaluates_like_texts_alone(program, state, frozen, split):
    """Contract 1 for evaluation: in batches of like lengths, of two micro-batches or more, and without dropout."""
    assert all(shape.micro_batches > 1 for shape in program.evaluated["test"].shapes)
    if program.setup.name in KNOWN_TO_NAIVE:
        exact = doubles({**state.params, **frozen})
        alone = [naive.logits(exact, split.tokens[row], BODY) for row in range(len(split))]
        assert_same_logits(program.evaluate(state.params, frozen, "test"), alone)


def assert_only_trained(opt_state, setup):
    """Each array of the optimizer's state belongs to a trained leaf, of whose shape there are at most two (moments)."""
    sizes = dict.fromkeys(setup.trainable, 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
        keys = [str(part.key) for part in path if isinstance(part, jax.tree_util.DictKey)]
        owner = next((key for key in keys if key in setup.model.shapes), None)
        if np.ndim(leaf):
            assert owner in setup.trainable, path
            sizes[owner] += np.size(leaf)
    assert all(n <= 2 * np.prod(setup.model.shapes[path]) for path, n in sizes.items())
    assert sum(sizes.values()) > 0


def assert_sizes_of(state, frozen, setup, body):
    """The bytes that a setup says are those of the arrays: optimizer's state, and all that is the body's no more."""
    assert setup.optimizer_bytes == sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state.opt_state))
    own = [
        np.asarray(value)
        for path, value in {**state.params, **frozen}.items()
        if path not in body or np.asarray(value).tobytes() != body[path].tobytes()
    ]
    assert setup.kept_bytes == sum(value.nbytes for value in own)


@every_strategy
def test_frozen_weights_are_the_same_memory_for_every_seed(name):
    setup = setup_of(name)
    where = tiny.devices()
    on_device = where.shared(dict(setup.model.base.parameters))

    def start(seed):
        state, frozen = create_state(setup, on_device, seed)
        return where.state(state), where.shared(frozen)

    (first, frozen), (second, also_frozen) = start(0), start(1)
    address = {path: value.unsafe_buffer_pointer() for path, value in on_device.items()}
    for path in set(frozen) & set(on_device):
        assert frozen[path].unsafe_buffer_pointer() == also_frozen[path].unsafe_buffer_pointer() == address[path], path
    trained = [*first.params.values(), *second.params.values()]
    pointers = {value.unsafe_buffer_pointer() for value in trained}
    assert len(pointers) == len(trained)
    assert not pointers & set(address.values())


@every_strategy
def test_seeds_differ_and_start_from_the_same_body(name):
    setup = setup_of(name)
    starts = [{**s.params, **f} for s, f in (create_state(setup, shared(setup), seed) for seed in (0, 1, 0))]
    for path, value in setup.model.base.parameters.items():
        assert np.asarray(starts[0][path]).tobytes() == np.asarray(starts[1][path]).tobytes() == value.tobytes()
    assert (np.asarray(starts[0]["score/kernel"]) != np.asarray(starts[1]["score/kernel"])).any()
    for path, value in starts[0].items():
        assert np.asarray(value).tobytes() == np.asarray(starts[2][path]).tobytes(), path


# 7 and 10: micro-batches and devices

ARRANGEMENTS = {  # devices, mode, tokens of a micro-batch
    "one": (1, "jit", 16384),
    "jit-2-micro": (2, "jit", 100),
    "jit-4": (4, "jit", 16384),
    "pmap-4": (4, "pmap", 16384),
}
ARRANGED = [
    pytest.param(name, arrangement, marks=[] if name in ALL else pytest.mark.long)
    for name in tiny.one_of_each("model", "trainable")
    for arrangement in ARRANGEMENTS
    # Every strategy in the one that has both; each arrangement by itself for the original three.
    if arrangement == "jit-2-micro" or (arrangement != "one" and name in ALL)
]


@cache
def trajectory(name, arrangement):
    """(gradients of the first batch, losses of 20 steps) with dropout; each epoch's last batch has only 3 texts."""
    count, mode, micro_batch_tokens = ARRANGEMENTS[arrangement]
    where = tiny.devices(count, mode)
    program = tiny.training(setup_of(name), SPLIT, where, micro_batch_tokens=micro_batch_tokens, epochs=4)
    state, frozen = program.start(SEED)
    first = {path: np.asarray(gradient) for path, gradient in gradients_of(program, state, frozen)[1].items()}
    losses = []
    for number in range(20):
        state, metrics = program.train_step(state, frozen, 0, *divmod(number, program.batches.steps_per_epoch))
        losses.append(float(metrics["loss"]) / float(metrics["weight"]))
    return first, losses, program.batches


@pytest.mark.optimized
@pytest.mark.parametrize(("name", "arrangement"), ARRANGED)
def test_micro_batches_and_devices_give_one_devices_gradients_and_losses(name, arrangement):
    gradients, losses, _ = trajectory(name, "one")
    ours, our_losses, batches = trajectory(name, arrangement)
    texts = np.stack([batches.batch(0, 0, step)[1].weight.sum(-1) for step in range(5)]).reshape(5, -1)
    assert (texts.min(1) < texts.max(1)).any()  # devices and micro-batches have unequal numbers of texts
    assert (texts.min() == 0) == (texts.shape[1] > 3)  # and none at all where the last batch has fewer than they are
    assert_same_leaves(ours, gradients)
    assert_same_losses(our_losses, losses)
    assert max(losses) > 1.01 * min(losses)
