"""Updates whose numbers are not finite are skipped to the byte, and noticed at once, alone and in groups.

What is not finite is real: one token's embedding is infinite (in a frozen body), and only one text has that token.
"""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import tiny
from support.exactness import OPTIMIZED, assert_exactly_or_closely, assert_same_bytes
from support.seed_groups import ARRANGEMENTS, EPOCHS, PER_EPOCH, SEEDS, SPLIT, StopAt

from flax_agnews.data.batches import EvalBatches
from flax_agnews.data.tokens import Ragged
from flax_agnews.models.dropout import Noise
from flax_agnews.strategies import Strategy
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.history import History, Journal
from flax_agnews.training.lane import Lane
from flax_agnews.training.loop import train_runs
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.saving import Saving
from flax_agnews.training.state import TrainState, create_state
from flax_agnews.training.step import classification_loss, make_gradients

BAD_TOKEN, BAD_ROW = 100, 17
BODY = tiny.random_base()


def with_one_bad_token(base):
    table = base.parameters["transformer/wte/embedding"].copy()
    table[BAD_TOKEN] = np.inf
    return replace(base, parameters={**base.parameters, "transformer/wte/embedding": table})


def without_bad_token(split):
    return replace(split, tokens=replace(split.tokens, ids=split.tokens.ids % BAD_TOKEN))


def with_one_bad_text(split):
    rows = [np.array(split.tokens[i]) for i in range(len(split))]
    rows[BAD_ROW][-1] = BAD_TOKEN
    return replace(split, tokens=Ragged.of(rows))


CLEAN = without_bad_token(SPLIT)
TRAIN = with_one_bad_text(CLEAN)


def prompt(base=BODY):
    return tiny.prepare(tiny.build("prompt", initializer="normal"), base)


def bad_steps(batches, seed, epochs=1):
    """The updates of a seed, counted from 1, whose batch has the bad text."""
    steps = itertools.product(range(epochs), range(batches.steps_per_epoch))
    return [number for number, at in enumerate(steps, 1) if BAD_ROW in batches.rows(seed, *at)]


def on_host(program, state):
    """A copy of one device's state."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), program.devices.first(state))


# The update


def epoch_with_bad_text(program, seeds):
    """State after an epoch, and which updates were left out, [updates, seeds], as the program says."""
    state, frozen = program.start_together(seeds)
    skipped = []
    for number in range(program.batches.steps_per_epoch):
        state, metrics = program.train_together(state, frozen, seeds, 0, number)
        skipped.append(np.atleast_1d(metrics["skipped"]))
        assert (np.isfinite(np.atleast_1d(metrics["loss"])) == ~skipped[-1]).all()
    return on_host(program, state), np.array(skipped)


def epoch_by_hand(program, seeds, bad):
    """The same with the clean body, where we ourselves put back what a bad update did, but for its count."""
    clean = {**program.shared, "transformer/wte/embedding": jnp.asarray(BODY.parameters["transformer/wte/embedding"])}
    state, frozen = program.start_together(seeds)
    frozen = program.devices.shared({path: clean.get(path, value) for path, value in frozen.items()})
    for number in range(program.batches.steps_per_epoch):
        before = on_host(program, state)
        state, metrics = program.train_together(state, frozen, seeds, 0, number)
        assert not np.any(metrics["skipped"])
        after, back = on_host(program, state), bad[number]

        def put_back(old, new, back=back):
            return np.where(back.reshape(-1, *[1] * (new.ndim - 1)) if new.ndim and len(back) > 1 else back, old, new)

        state = TrainState(
            *jax.tree.map(put_back, (before.params, before.opt_state), (after.params, after.opt_state)),
            after.step,
            after.seed,
        )
        state = jax.tree.map(lambda leaf, like: jnp.array(leaf).reshape(like.shape), state, after)
        state = program.devices.state(state)
    return on_host(program, state)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("arrangement", "seeds"), [("one", SEEDS[:1]), *((name, SEEDS) for name in ARRANGEMENTS)], ids=str
)
def test_a_bad_update_is_left_out_to_the_byte_and_the_step_counts_on(arrangement, seeds):
    count, mode, micro_batch_tokens = ARRANGEMENTS[arrangement]
    program = tiny.training(
        prompt(with_one_bad_token(BODY)),
        TRAIN,
        tiny.devices(count, mode),
        micro_batch_tokens=micro_batch_tokens,
        seeds=SEEDS,
        epochs=4,
        together=len(seeds),
    )
    state, skipped = epoch_with_bad_text(program, seeds)
    for number, seed in enumerate(seeds):
        assert list(np.flatnonzero(skipped[:, number]) + 1) == bad_steps(program.batches, seed)
    assert skipped.sum() == len(seeds)
    assert len(seeds) == 1 or len({*skipped.argmax(0)}) > 1  # each seed meets the text in an update of its own
    assert (state.step == program.batches.steps_per_epoch).all()
    assert_exactly_or_closely(state, epoch_by_hand(program, seeds, skipped))


def plain_step(setup):
    """The same training step, with optax's update as it is."""
    gradients = make_gradients(setup.model, classification_loss)

    def step(state, frozen, batch):
        sums, grads = gradients(state.params, frozen, batch, Noise(state.seed, state.step, setup.rates))
        grads = jax.tree.map(lambda g: g / sums["weight"], grads)
        updates, opt_state = setup.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.seed), {**sums, "grad_norm": optax.tree.norm(grads)}

    return step


@pytest.mark.optimized
@pytest.mark.parametrize("name", ["full", "prompt"])
def test_finite_updates_are_optaxs_own_to_the_byte(name):
    setup, where = tiny.prepare(name), tiny.devices()
    program = tiny.training(setup, CLEAN, where)
    ours, frozen = program.start(0)
    theirs = where.state(create_state(setup, program.shared, 0)[0])
    compiled = None
    for number in range(program.batches.steps_per_epoch):
        batch = where.batch(program.batches.batch(0, 0, number)[1])
        compiled = compiled or where.compile(plain_step(setup), theirs, frozen, batch, donate=True)
        theirs, expected = compiled(theirs, frozen, batch)
        ours, metrics = program.train_step(ours, frozen, 0, 0, number)
        assert not metrics["skipped"]
        assert_exactly_or_closely({name: metrics[name] for name in expected}, expected)
    assert_exactly_or_closely(ours, theirs)


# Runs


def program_of(setup, train, seeds=(0,), together=1):
    evaluated = EvalBatches(CLEAN.tokens, CLEAN.labels, 35, devices=1)
    both = {"validation": evaluated, "test": evaluated}
    return tiny.training(setup, train, tiny.devices(), seeds=seeds, epochs=EPOCHS, together=together, evaluated=both)


def lanes_in(folder, seeds, skip=False):
    return [Lane(seed, Store(folder / str(seed), keep=2), folder / f"{seed}.jsonl", skip=skip) for seed in seeds]


def trained(program, lanes, every_steps=PER_EPOCH, watch=None):
    return train_runs(program, lanes, EPOCHS, saving=Saving(every_steps=every_steps), observer=watch)


def lines_of(folder, seed):
    return [json.loads(line) for line in (folder / f"{seed}.jsonl").read_text().splitlines()]


def ended(run, folder, seed):
    """All that a run left: its lines, answers and weights."""
    names = ("train_loss", "val_loss", "val_accuracy", "best_epoch", "skipped", "first_skipped", "lines")
    history = {name: getattr(run.history, name) for name in names}
    return {"written": lines_of(folder, seed), "logits": run.logits, "params": run.params, **history}


def written(folder, seed):
    return (folder / f"{seed}.jsonl").read_bytes()


@pytest.fixture(scope="module")
def pair():
    """A program for two seeds, each of which meets the bad text once an epoch."""
    return program_of(prompt(with_one_bad_token(BODY)), TRAIN, seeds=(0, 1), together=2)


@pytest.fixture(scope="module")
def skipping(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("skipping")
    return folder, trained(pair, lanes_in(folder, (0, 1), skip=True))


def test_skipped_updates_are_counted_marked_and_in_no_mean(pair, skipping):
    folder, runs = skipping
    for seed, run in zip((0, 1), runs, strict=True):
        bad, lines = bad_steps(pair.batches, seed, EPOCHS), lines_of(folder, seed)
        updates, epochs = ([line for line in lines if unit in line] for unit in ("step", "epoch"))
        assert run.history.skipped == [1] * EPOCHS
        assert [line["step"] for line in updates] == list(range(1, EPOCHS * PER_EPOCH + 1))
        for line in updates:
            lost = {"skipped": True, "nonfinite": ["batch/train_loss", "batch/grad_norm"]}
            assert {key: line[key] for key in lost if key in line} == (lost if line["step"] in bad else {})
            assert (line["batch/train_loss"] is None) == (line["step"] in bad)
        for line in epochs:
            span = range((line["epoch"] - 1) * PER_EPOCH, line["epoch"] * PER_EPOCH)
            good = [updates[i] for i in span if i + 1 not in bad]
            sizes = [len(pair.batches.rows(seed, line["epoch"] - 1, i % PER_EPOCH)) for i in span if i + 1 not in bad]
            mean = np.average([update["batch/train_loss"] for update in good], weights=sizes)
            assert line["train/loss"] == pytest.approx(mean, rel=1e-6)  # sums are float32 on the device
        assert np.isfinite(run.history.train_loss).all()


def test_stopped_side_by_side_and_gone_on_with_by_skipping(pair, skipping, tmp_path):
    """Nothing is saved after the update that was the last run's first bad one; what was saved is used."""
    lanes = lanes_in(tmp_path, (0, 1))
    assert trained(pair, lanes, every_steps=1) == [None, None]
    first = [bad_steps(pair.batches, seed)[0] for seed in (0, 1)]
    assert first[0] != first[1]
    assert [lane.fault for lane in lanes] == [f"at step {step} (loss and gradient)" for step in first]
    for seed in (0, 1):
        assert max(Store(tmp_path / str(seed)).steps) == max(first) - 1
        assert lines_of(tmp_path, seed)[-1]["step"] == max(first)  # noticed in that update, and nothing trained on
    watch = StopAt()
    runs = trained(pair, lanes_in(tmp_path, (0, 1), skip=True), watch=watch)
    assert watch.went_on == [max(first) - 1]
    for seed, ours, theirs in zip((0, 1), runs, skipping[1], strict=True):
        assert written(tmp_path, seed) == written(skipping[0], seed)
        assert_same_bytes(ended(ours, tmp_path, seed), ended(theirs, skipping[0], seed))


# A strategy whose own transformation goes wrong


def dividing_by_zero():
    """A rate of 1e-3 / (3 - step): the fourth update makes all that trains infinite, from sound gradients."""
    return tiny.prepare(
        Strategy.by_pattern("mine", {"score/": optax.sgd(lambda step: 1e-3 / (3 - step)), "": "frozen"})
    )


@pytest.fixture(scope="module")
def lone():
    return program_of(dividing_by_zero(), CLEAN)


@pytest.mark.parametrize("skip", [False, True], ids=["stop", "skip"])
def test_weights_that_are_not_finite_are_never_saved(lone, tmp_path, skip):
    [lane], told = lanes_in(tmp_path, (0,), skip), []
    assert train_runs(lone, [lane], EPOCHS, saving=Saving(every_steps=1, note=told.append)) == [None]
    assert lane.fault == ("after epoch 1 (validation logits)" if skip else "at step 5 (loss and gradient)")
    assert max(lane.store.steps) == 3
    state, _ = lane.store.restore(3, lone.start(0)[0])
    assert np.isfinite(state.params["score/kernel"]).all()
    assert [line.split(";")[0] for line in told] == ["step 4 could not be saved (its weights are not finite)"]


def test_weights_that_are_not_finite_are_no_failure_of_the_disk_for_which_training_would_stop(lone, tmp_path):
    [lane], told = lanes_in(tmp_path, (0,)), []
    assert train_runs(lone, [lane], EPOCHS, saving=Saving(every_steps=4, note=told.append, stop=True)) == [None]
    assert lane.fault == "at step 5 (loss and gradient)"
    assert told == ["step 4 could not be saved (its weights are not finite); goes on, with the saves that there are"]


def test_weights_that_are_not_finite_are_noticed_in_the_next_update(lone, tmp_path):
    [lane] = lanes_in(tmp_path, (0,))
    assert trained(lone, [lane]) == [None]
    assert lane.fault == "at step 5 (loss and gradient)"
    assert not (tmp_path / "0").exists()


# A bad run beside a good one


def half_of_the_seeds_are_bad():
    """A prompt that is infinite for about every other seed."""
    good = tiny.build("prompt", initializer="normal")

    def adapt(model, key):
        adapted = good.adapt(model, key)
        bad = jax.random.bernoulli(jax.random.fold_in(key, 1))
        adapted.prompt.embedding[...] = jnp.where(bad, jnp.inf, adapted.prompt.embedding[...])
        return adapted

    return tiny.prepare(replace(good, name="half bad", adapt=adapt))


@pytest.fixture(scope="module")
def beside():
    """A program, two good seeds, and a bad one."""
    setup = half_of_the_seeds_are_bad()
    shared = {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}
    states = {seed: create_state(setup, shared, seed)[0] for seed in range(12)}
    good = {seed: bool(np.isfinite(state.params["prompt/embedding"]).all()) for seed, state in states.items()}
    first, second = [seed for seed in good if good[seed]][:2]
    bad = next(seed for seed in good if not good[seed])
    return program_of(setup, CLEAN, seeds=(first, second, bad), together=2), first, second, bad


@pytest.fixture(scope="module")
def beside_a_good_one(beside, tmp_path_factory):
    program, first, second, _ = beside
    folder = tmp_path_factory.mktemp("beside")
    return folder, trained(program, lanes_in(folder, (first, second)))[0]


@pytest.mark.optimized
@pytest.mark.parametrize("skip", [False, True], ids=["stop", "skip"])
def test_the_good_run_ends_with_the_bytes_that_it_has_beside_another_good_one(
    beside, beside_a_good_one, tmp_path, skip
):
    """Stopped in the middle and gone on with, too. A run that skips every update of an epoch ends as well."""
    program, first, _, bad = beside
    with pytest.raises(Interrupted):
        trained(program, lanes_in(tmp_path, (first, bad), skip), watch=StopAt(PER_EPOCH + 3))
    watch, lanes = StopAt(), lanes_in(tmp_path, (first, bad), skip)
    run, nothing = trained(program, lanes, watch=watch)
    assert watch.went_on == [PER_EPOCH + 3]
    folder, beside_good = beside_a_good_one
    assert_exactly_or_closely(ended(run, tmp_path, first), ended(beside_good, folder, first))
    assert not OPTIMIZED or written(tmp_path, first) == written(folder, first)
    assert nothing is None
    assert not lanes[0].fault
    assert lanes[1].fault == ("in epoch 1 (each of its updates)" if skip else "at step 1 (loss and gradient)")
    assert all(line.get("skipped") for line in lines_of(tmp_path, bad) if "step" in line)
    epochs = [line for line in lines_of(tmp_path, bad) if "epoch" in line]
    assert all({"train/loss", "val/accuracy"} <= {*line["nonfinite"]} for line in epochs)


def test_many_bad_updates_in_a_row_end_a_run_that_skips(tmp_path):
    history = History()
    journal = Journal(history, 1000, tiny.CLASSES, tmp_path / "metrics.jsonl", None)
    good = {"loss": 8.0, "weight": 8.0, "correct": 3.0, "texts": 8.0, "grad_norm": 1.0, "skipped": False}
    bad = {**good, "loss": np.nan, "grad_norm": np.inf, "skipped": True}
    for step, values in enumerate([good, *[bad] * 49, good, *[bad] * 49], 1):
        journal.update(step, values)
        assert not history.fault
    journal.update(101, bad)
    assert history.fault == "at step 101 (each of the last 50 updates)"
    assert (history.partial["weight"], history.partial["skipped"]) == (16.0, 99.0)
