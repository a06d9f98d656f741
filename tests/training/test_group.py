"""Seeds that train together in one program have the losses, batches and results that each has alone."""

import itertools
import json
import shutil
import signal
from functools import cache
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny
from support.bounds import BOUNDS, assert_same_losses
from support.kept_predictions import assert_scores_of_predictions
from support.packed_texts import expected, lengths_of_texts, texts_of
from support.seed_groups import ARRANGEMENTS, EPOCHS, PER_EPOCH, SEEDS, SPLIT, StopAt, assert_ended_alike, trained
from support.small_experiments import ONE_LAYER, metrics, results, small, start
from support.strategy_setups import BODY, setup_of

from flax_agnews.data.batches import EvalBatches
from flax_agnews.main import main
from flax_agnews.strategies import Strategy
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.observer import Interrupted

STEPS = 20


# Contract 11


def losses_of(setup, arrangement, groups):
    """Losses of 20 steps of each seed, [seeds, steps], trained in these groups; with the program."""
    count, mode, micro_batch_tokens = ARRANGEMENTS[arrangement]
    program = tiny.training(
        setup,
        SPLIT,
        tiny.devices(count, mode),
        micro_batch_tokens=micro_batch_tokens,
        seeds=SEEDS,
        epochs=4,
        together=len(groups[0]),
    )
    found = []
    for seeds in groups:
        state, frozen = program.start_together(seeds)
        rows = []
        for number in range(STEPS):
            epoch, step = divmod(number, program.batches.steps_per_epoch)
            state, values = program.train_together(state, frozen, seeds, epoch, step)
            rows.append(np.atleast_1d(values["loss"]) / np.atleast_1d(values["weight"]))
        found.extend(np.transpose(rows))
    return np.array(found), program


@cache
def losses_alone(name):
    return losses_of(setup_of(name), "one", [[seed] for seed in SEEDS])[0]


def assert_own_losses(together, alone):
    assert_same_losses(together, alone)
    between = np.abs(alone - alone[[1, 2, 0]]) / alone
    assert (between > BOUNDS["losses"]).mean() > 0.9  # one seed's losses would not pass for another's


@pytest.mark.optimized
@pytest.mark.parametrize("name", tiny.original_first())
def test_seeds_together_have_the_losses_of_each_alone(name):
    together, program = losses_of(setup_of(name), "one", [SEEDS])
    assert_own_losses(together, losses_alone(name))
    _, frozen = program.start_together(SEEDS)
    for path, value in frozen.items():  # the body's frozen weights are there once
        assert value.unsafe_buffer_pointer() == program.shared[path].unsafe_buffer_pointer(), path


@pytest.mark.parametrize("arrangement", [name for name in ARRANGEMENTS if name != "one"])
def test_on_two_devices_and_in_micro_batches(arrangement):
    together, program = losses_of(setup_of("prompt"), arrangement, [SEEDS])
    assert all((shape.micro_batches > 1) == (arrangement == "jit-2-micro") for shape in program.batches.shapes)
    assert_own_losses(together, losses_alone("prompt"))


def test_a_frozen_random_head_is_each_seeds_own():
    patterns = {"score/|transformer/(wte|wpe)/": "frozen", ".*": optax.adamw(1e-3)}
    setup = tiny.prepare(Strategy.by_pattern("frozen head", patterns), tiny.random_base(BODY))
    together, program = losses_of(setup, "one", [SEEDS])
    assert_own_losses(together, losses_of(setup, "one", [[seed] for seed in SEEDS])[0])
    state, frozen = program.start_together(SEEDS)
    assert frozen["score/kernel"].shape == (len(SEEDS), *setup.model.shapes["score/kernel"])
    for number, seed in enumerate(SEEDS):
        for ours, alone in zip(program.alone(state, frozen, number, len(SEEDS)), program.start(seed), strict=True):
            assert jax.tree.structure(ours) == jax.tree.structure(alone)
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(alone), strict=True):
                np.testing.assert_array_equal(a, b)


@settings(max_examples=30, deadline=None)
@given(
    lengths_of_texts,
    st.integers(1, 12),
    st.sampled_from([1, 2]),
    st.sampled_from([16384, 200, 1]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_one_planned_shape_holds_each_seeds_own_batch(lengths, batch_size, devices, limit, most, together):
    split = tiny.random_split(lengths)
    batches = tiny.planned(
        split,
        batch_size=batch_size,
        seeds=(3, 0, 8),
        epochs=2,
        devices=devices,
        micro_batch_tokens=limit,
        most_shapes=most,
        together=together,
    )
    assert [seed for group in batches.groups for seed in group] == [3, 0, 8]
    assert max(map(len, batches.groups)) == min(together, 3)
    assert len(batches.shapes) <= most
    for group, epoch, step in itertools.product(batches.groups, range(2), range(batches.steps_per_epoch)):
        for seeds in (group, group[1:]) if len(group) > 1 else (group,):  # all of them, or some finished before
            shape, joint = batches.joint_batch(seeds, epoch, step)
            assert shape in batches.shapes
            for number, seed in enumerate(seeds):
                own = joint if len(seeds) == 1 else jax.tree.map(lambda x, n=number: x[:, n], joint)
                assert own.ids.shape == (devices, shape.micro_batches, shape.tokens)
                assert texts_of(own) == expected(split, batches.rows(seed, epoch, step))


# Stopped, and gone on with

STOP = 8  # in the middle of the second epoch


@pytest.fixture(scope="module")
def pair():
    """A program for two seeds; `full` keeps every sort of state."""
    evaluated = EvalBatches(SPLIT.tokens, SPLIT.labels, 35, devices=1)
    both = {"validation": evaluated, "test": evaluated}
    setup, where = setup_of("full"), tiny.devices()
    return tiny.training(setup, SPLIT, where, seeds=(0, 1), epochs=EPOCHS, together=2, evaluated=both)


@pytest.fixture(scope="module")
def uninterrupted(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, trained(pair, folder)


def stopped(pair, folder):
    with pytest.raises(Interrupted) as caught:
        trained(pair, folder, StopAt(STOP))
    assert caught.value.step == STOP
    assert [Store(folder / str(seed)).steps for seed in (0, 1)] == [[PER_EPOCH, STOP]] * 2


def test_a_stopped_group_ends_with_the_bytes_of_an_uninterrupted_one(pair, uninterrupted, tmp_path):
    stopped(pair, tmp_path)
    watch = StopAt()
    assert_ended_alike(tmp_path, trained(pair, tmp_path, watch), uninterrupted)
    assert watch.went_on == [STOP]


@pytest.mark.parametrize("kept", [[PER_EPOCH], []], ids=["from the save before", "from the start"])
def test_a_group_killed_between_two_saves_goes_on_from_what_all_have(pair, uninterrupted, tmp_path, kept):
    stopped(pair, tmp_path)
    for step in {PER_EPOCH, STOP} - {*kept}:  # the second run's save never ended
        shutil.rmtree(tmp_path / "1" / f"step-{step:08d}")
    watch = StopAt()
    assert_ended_alike(tmp_path, trained(pair, tmp_path, watch), uninterrupted)
    assert watch.went_on == kept
    assert [Store(tmp_path / str(seed)).steps for seed in (0, 1)] == [[PER_EPOCH, 2 * PER_EPOCH]] * 2


def test_a_group_killed_between_its_last_saves(pair, uninterrupted, tmp_path):
    folder = Path(shutil.copytree(uninterrupted[0], tmp_path / "out"))
    shutil.rmtree(folder / "1" / f"step-{2 * PER_EPOCH:08d}")
    watch = StopAt()
    assert_ended_alike(folder, trained(pair, folder, watch), uninterrupted)
    assert watch.went_on == [PER_EPOCH]


def test_predictions_are_the_same_when_the_best_weights_are_read_again(pair, uninterrupted, tmp_path):
    """Resumed where nothing is left to train: the validation texts are evaluated once more."""
    kept = trained(pair, tmp_path / "fresh", epochs=2)
    folder = Path(shutil.copytree(uninterrupted[0], tmp_path / "out"))
    evaluated, evaluate = [], pair.evaluate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair, "evaluate", lambda *given: [evaluated.append(given[2]), evaluate(*given)][1])
        again = trained(pair, folder, epochs=2)
    assert evaluated == ["test", "validation"] * 2
    for ours, theirs in zip(again, kept, strict=True):
        assert ours.val_logits.tobytes() == theirs.val_logits.tobytes()
        assert np.mean(ours.val_logits.argmax(1) == SPLIT.labels) == max(ours.history.val_accuracy)


def test_costs_are_shared_and_tokens_each_runs_own(uninterrupted):
    _, runs = uninterrupted
    assert [run.history.tokens for run in runs] == [EPOCHS * int(SPLIT.tokens.lengths.sum())] * 2
    first, second = (run.history for run in runs)
    assert first.train_seconds == second.train_seconds > 0
    assert sum(first.epoch_seconds) == pytest.approx(first.train_seconds, rel=1e-9)


# A whole experiment

FLAGS = ("--strategy", "full,partial", "--train.runs", 3)  # `partial` reads what its frozen layer gave, once for all
RUNS = [(name, seed) for name in ("full", "partial") for seed in (42, 43, 44)]


@pytest.fixture(scope="module")
def in_pairs(tmp_path_factory):
    output = tmp_path_factory.mktemp("experiment") / "out"
    assert main(small(output, *FLAGS, "--train.parallel_seeds", 2)) == 0
    return output


def test_an_experiment_in_groups_has_the_losses_of_one_run_after_the_other(in_pairs, tmp_path):
    assert main(small(tmp_path / "out", *FLAGS)) == 0
    for name, seed in RUNS:
        (ours, epochs), (alone, _) = (metrics(out / name / f"seed-{seed}") for out in (in_pairs, tmp_path / "out"))
        assert_same_losses(*([line["batch/train_loss"] for line in lines] for lines in (ours, alone)))
        assert [line["epoch"] for line in epochs] == [1, 2]
    runs = results(in_pairs)["runs"]
    assert [(run["strategy"], run["seed"]) for run in runs] == RUNS
    assert_scores_of_predictions(in_pairs, ["full", "partial"])
    assert all((run["cost"]["cache_seconds"] > 0) == (run["strategy"] == "partial") for run in runs)
    states = [path.relative_to(in_pairs).parts for path in in_pairs.glob("*/*/checkpoints/step-*")]
    assert sorted((name, int(seed[5:])) for name, seed, *_ in states) == sorted(RUNS)  # each run's last, and no other


def test_of_a_group_only_what_is_not_finished_is_trained(in_pairs, tmp_path, capsys):
    output = Path(shutil.copytree(in_pairs, tmp_path / "out"))
    kept = output / "full" / "seed-42" / "metrics.jsonl"
    before = kept.stat().st_mtime_ns, json.loads((output / "full" / "seed-43" / "result.json").read_text())
    (output / "full" / "seed-43" / "result.json").unlink()
    assert main(small(output, *FLAGS, "--train.parallel_seeds", 2)) == 0
    assert "5 of 6 runs were done before" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before[0]
    after = json.loads((output / "full" / "seed-43" / "result.json").read_text())
    assert_same_losses(after["train_loss"], before[1]["train_loss"])  # alone now


def test_a_signal_saves_every_run_of_the_group(in_pairs, tmp_path, capsys):
    output = tmp_path / "out"
    flags = ("--strategy", "full", "--train.runs", 2, "--train.parallel_seeds", 2, "--train.batch_size", 2, *ONE_LAYER)
    process = start(small(output, *flags))
    for line in process.stdout:
        if "epoch 1/" in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = out.splitlines()[-1]
    assert last.startswith("saved at full/seed-42, full/seed-43, step ")
    assert main(small(output, *flags)) == 0
    assert f"full 2 seeds from 42: goes on at {last.split(', ')[-1].split(';')[0]}" in capsys.readouterr().out
    assert [run["seed"] for run in results(output)["runs"]] == [42, 43]
