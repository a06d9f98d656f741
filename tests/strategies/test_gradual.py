"""Gradual unfreezing against PyTorch and against masked gradients, resumed in any stage, and the work it saves."""

import shutil
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from support import tiny
from support.bounds import BOUNDS, assert_same_losses
from support.exactness import assert_same_bytes
from support.frozen_layers import CONFIG, DATA, contents, folder, read
from support.parity import body, rows_of, texts
from support.reference import Reference
from support.seed_groups import EPOCHS, PER_EPOCH, SPLIT, StopAt, assert_ended_alike
from support.seed_groups import trained as go_on
from support.step_work import counted, needed
from support.strategy_setups import BODY, on_batches
from support.strategy_sizes import group_of
from transformers import GPT2Model

from flax_agnews.data.batches import EvalBatches
from flax_agnews.models.dropout import Noise
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.strategies import Stage, Strategy, layers
from flax_agnews.training import feed
from flax_agnews.training.frozen_layers import frozen_depth
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.program import Program
from flax_agnews.training.step import classification_loss, make_gradients

__all__ = ["body", "folder", "texts"]  # fixtures

RATE, FACTOR = 4e-3, 2.0


def gradual(base=None, each=1, **how):
    """In three stages: of two layers head | 1 | 0 and embeddings."""
    base = base or tiny.random_base(BODY)
    settings = {"learning_rate": RATE, "factor": FACTOR, "layers": each}
    return tiny.prepare(tiny.build("gradual", base.config, **settings), base, weight_decay=0.01, **how)


def run(program, steps=20):
    """(losses, the last state) of seed 0."""
    state, frozen = program.start(0)
    losses = []
    for number in range(steps):
        state, metrics = program.train_step(state, frozen, 0, *divmod(number, program.batches.steps_per_epoch))
        losses.append(float(metrics["loss"] / metrics["weight"]))
    return losses, state


# Against PyTorch


def torch_losses(body, texts, program, stage_of):
    """Of 20 steps in which the groups up to that of the step's stage require gradients."""
    model, _ = body
    copy = GPT2Model(model.config).eval()
    copy.load_state_dict(model.state_dict())
    reference = Reference(copy, program.start(seed=0)[0].params["score/kernel"])
    group = {path: group_of(path, 3, 2) for path in reference.by_path()}
    rates = [{"params": [p], "lr": RATE / FACTOR ** group[path]} for path, p in reference.by_path().items()]
    optimizer = torch.optim.AdamW(rates, weight_decay=0.01)
    losses = []
    for step in range(20):
        for path, parameter in reference.by_path().items():
            parameter.requires_grad_(group[path] <= stage_of(step))
        loss = reference.loss(*rows_of(program, texts, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_twenty_steps_over_three_stages_are_torchs(body, texts):
    setup = gradual(body[1], each=2, dropout=0.0)  # of three layers: head | 1 and 2 | 0 and embeddings
    program = tiny.training(setup, texts, tiny.devices(), epochs=4)
    theirs, at_once, head_alone = (
        torch_losses(body, texts, program, stage_of) for stage_of in (lambda step: step // 5, lambda s: 2, lambda s: 0)
    )
    ours, _ = run(program)
    assert_same_losses(ours, theirs)
    for other in (at_once, head_alone):
        assert np.abs(np.subtract(other, theirs)).max() > 100 * BOUNDS["losses"]


# Against the naive way: all gradients, of which a mask leaves some


def naive_run(program):
    """Losses of 20 steps in which everything is differentiated, and only the stage's labels move."""
    setup, where = program.setup, program.devices
    state, frozen = program.start(0)
    group = {path: group_of(path, 2, 1) for path in state.params}
    params, groups = dict(state.params), range(3)
    each = [optax.adamw(RATE / FACTOR**g, weight_decay=0.01) for g in groups]

    def own(tree, g):
        return {path: value for path, value in tree.items() if group[path] == g}

    states = [each[g].init(own(params, g)) for g in groups]
    # As a stage has it: frozen layers draw no dropout.
    compute = [on_batches(whole_gradient(setup, stage.rates), where, program.batches) for stage in setup.stages]
    losses = []
    for number in range(20):
        stage = min(number // program.batches.steps_per_epoch, 2)
        state = where.state({"params": params, "step": np.uint32(number)})
        sums, gradients = compute[stage](state, frozen, number)
        losses.append(float(sums["loss"] / sums["weight"]))
        gradients = jax.tree.map(lambda g, weight=sums["weight"]: g / weight, gradients)
        for g in groups[: stage + 1]:
            updates, states[g] = each[g].update(own(gradients, g), states[g], own(params, g))
            params |= optax.apply_updates(own(params, g), updates)
    return losses


def whole_gradient(setup, rates):
    gradients = make_gradients(setup.model, classification_loss)

    def one_device(state, frozen, batch):
        return gradients(state["params"], frozen, batch, Noise(jnp.uint32(0), state["step"], rates))

    return one_device


@pytest.fixture(scope="module")
def trained():
    """A program in three stages with dropout, its losses and its last state."""
    program = tiny.training(gradual(), SPLIT, tiny.devices(), epochs=4)
    return program, *run(program)


def test_stages_are_all_gradients_with_a_mask(trained):
    program, ours, _ = trained
    naive = naive_run(program)
    assert_same_losses(ours, naive)
    assert max(naive) > 1.01 * min(naive)


def test_each_label_counts_its_own_updates(trained):
    _, _, state = trained
    counts = {
        (path[1].key, int(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if not np.ndim(leaf)
    }
    assert counts == {("group 0", 20), ("group 1", 15), ("group 2", 10)}


# Stopped, and gone on with


@pytest.fixture(scope="module")
def pair():
    """A program in three stages, an epoch each, for two seeds together."""
    evaluated = EvalBatches(SPLIT.tokens, SPLIT.labels, 35, devices=1)
    both = {"validation": evaluated, "test": evaluated}
    return tiny.training(gradual(), SPLIT, tiny.devices(), seeds=(0, 1), epochs=EPOCHS, together=2, evaluated=both)


@pytest.fixture(scope="module")
def uninterrupted(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, go_on(pair, folder)


@pytest.mark.parametrize(
    ("stop", "saved"),
    [(2, 2), (PER_EPOCH + 3, PER_EPOCH), (PER_EPOCH + 3, PER_EPOCH + 3), (2 * PER_EPOCH + 1, 2 * PER_EPOCH)],
)
def test_a_run_stopped_in_any_stage_or_between_two_ends_alike(pair, uninterrupted, tmp_path, stop, saved):
    with pytest.raises(Interrupted):
        go_on(pair, tmp_path, StopAt(stop))
    if saved < stop:  # the last save never ended: what is left was made between two stages
        shutil.rmtree(tmp_path / "1" / f"step-{stop:08d}")
    watch = StopAt()
    assert_ended_alike(tmp_path, go_on(pair, tmp_path, watch), uninterrupted)
    assert watch.went_on == [saved]


# What stages save


def test_no_gradient_below_what_trains():
    """The compiler counts the operations of a stage's step as those of its own leaves' gradients, in each stage."""
    body = GPT2Config(vocab_size=101, n_positions=64, n_embd=256, n_layer=3, n_head=4)
    setup = tiny.prepare(tiny.build("gradual", body, layers=1), tiny.random_base(body), dropout=0.0)
    work = [needed(stage) for stage in setup.stages[:3]]
    assert work[0] < work[1] < work[2]
    for stage, count in zip(setup.stages, work, strict=False):
        assert 1.04 < counted(stage) / count < 1.08  # as test_work_is_what_the_compiler_counts


@cache
def four_layers(**settings):
    """Stages of head, two layers, two layers and embeddings."""
    strategy = tiny.build("gradual", CONFIG, **{"layers": 2, **settings})
    return tiny.prepare(strategy, tiny.random_base(CONFIG), dropout=0.1)


def program_of(setup, inputs):
    where = tiny.devices()
    shared = where.shared(dict(setup.model.base.parameters))
    return Program(setup, where, shared, replace(inputs, evaluated={}), compiler=tiny.compiler(where))


def test_each_stage_reads_what_its_frozen_layers_gave(folder):
    setup = four_layers()
    kept, _ = read(setup)
    assert [batches.data.depth for batches in kept.by_stage] == [4, 2, 0]
    assert kept.batches.data.depth == 0
    assert kept.evaluated["test"].data is DATA.test.tokens
    assert len(contents(folder)) == 2  # of the training texts only: others are read after every layer has trained
    anew, batches = read(setup, cache_frozen="off")
    assert all(by is batches for by in (*anew.by_stage, anew.batches))
    (ours, _), (expected, _) = (run(program_of(setup, inputs)) for inputs in (kept, anew))
    assert_same_losses(ours, expected)
    assert len(np.unique(expected)) == len(expected)


def test_each_stage_reads_its_own_copy_on_a_device(folder, monkeypatch):
    inputs, _ = read(setup := four_layers())
    from_host, copies = run(program_of(setup, inputs)), []
    monkeypatch.setattr(feed, "stays_on_device", lambda *known: True)
    monkeypatch.setattr(feed, "copied", lambda values, where: copies.append(values) or jnp.asarray(values))
    assert_same_bytes(run(program_of(setup, inputs)), from_host)
    assert [values is batches.data.ids for values, batches in zip(copies, inputs.by_stage, strict=False)] == [True] * 2


@pytest.mark.parametrize(
    ("settings", "train", "depths"),
    [
        ({}, {"runs": 1}, [0, 0, 0]),  # what one epoch of one run reads is not worth keeping
        ({}, {"runs": 1, "cache_frozen": "on"}, [4, 2, 0]),
        ({"epochs": 2}, {"runs": 1}, [4, 2]),
        ({}, {"cache_gigabytes": 1e-5}, [4, 0, 0]),  # room for a vector a text, not for one a token
    ],
)
def test_a_stage_is_kept_where_it_pays_and_fits(settings, train, depths):
    inputs, _ = read(four_layers(**settings), **train)
    assert [batches.data.depth for batches in inputs.by_stage] == depths


def test_what_trained_before_is_not_kept_as_frozen():
    """A stage that freezes again what trained has other weights there than the body."""
    rates = {layers(3, 4): optax.sgd(0.1), layers(2, 3): optax.sgd(0.1), "score": optax.sgd(0.1), "": "frozen"}
    top, below, head = list(rates)[:3]
    stages = [Stage(0, [head]), Stage(1, [below]), Stage(2, [top]), Stage(3, [head, top])]
    setup = tiny.prepare(Strategy.by_pattern("one by one", rates, stages=stages), tiny.random_base(CONFIG))
    assert [frozen_depth(stage) for stage in setup.stages] == [4, 2, 2, 2]
    assert frozen_depth(setup) == 2
    learning = [{path.split("/")[2] for path in stage.learning if "/h/" in path} for stage in setup.stages]
    assert learning == [set(), {"2"}, {"3"}, {"3"}]
    noisy = [[layer for layer, draws in enumerate(stage.rates.noisy, start=-1) if draws] for stage in setup.stages]
    assert noisy == [[], [2], [3], [3]]
