"""A run's history: loss spikes by SciPy's deviation, skipped updates, and a resume that keeps count."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import median_abs_deviation
from support.event_files import events_in, scalars

from flax_agnews.metrics.tensorboard import TensorBoardTracker
from flax_agnews.training.history import History, Journal, is_spike, score

CLASSES, PER_EPOCH = 4, 60


def falling_losses(spikes=(), skipped=()):
    """Two epochs of noisy losses that fall from guessing; some jump, some are not finite."""
    rng = np.random.default_rng(0)
    losses = math.log(CLASSES) * np.exp(-np.arange(2 * PER_EPOCH) / 40) + rng.normal(0, 0.05, 2 * PER_EPOCH)
    losses[list(spikes)] = 3.0
    losses[list(skipped)] = np.nan
    return losses


def update_of(loss):
    bad = not np.isfinite(loss)
    return {"loss": 8 * loss, "weight": 8.0, "correct": 5.0, "texts": 8.0, "grad_norm": 1.0, "skipped": bad}


def sound_scores():
    return score(np.eye(CLASSES, dtype=np.float32), np.arange(CLASSES))


def train(journal, losses, start=0):
    for step, loss in enumerate(losses, 1):
        if step > start:
            journal.update(step, update_of(loss))
            if step % PER_EPOCH == 0:
                journal.epoch(sound_scores())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Spikes


def test_a_spike_is_above_guessing_and_eight_deviations_above_the_median_by_scipy():
    rng = np.random.default_rng(1)
    verdicts = []
    for _ in range(300):
        recent = rng.gamma(2.0, rng.uniform(0.01, 0.5), rng.integers(20, 51)) + rng.uniform(0, 1.5)
        limit = np.median(recent) + 8 * median_abs_deviation(recent, scale="normal")
        loss = limit * rng.uniform(0.8, 1.25)
        verdicts.append(is_spike(loss, recent.tolist(), math.log(CLASSES)))
        assert verdicts[-1] == (loss > limit and loss > math.log(CLASSES))
    assert 30 < sum(verdicts) < 270


@pytest.mark.parametrize(("known", "spike"), [(19, False), (20, True)])
def test_too_few_losses_say_nothing_and_those_left_out_are_none(known, spike):
    recent = [*[None] * 30, *np.linspace(0.5, 0.6, known).tolist()]
    assert is_spike(5.0, recent, math.log(CLASSES)) == spike


def test_only_the_last_fifty_updates_are_usual(tmp_path):
    """Losses are high for long and then low: what would have been usual before is a spike."""
    journal = Journal(History(), 1000, CLASSES, tmp_path / "metrics.jsonl", None)
    rng = np.random.default_rng(2)
    losses = np.concatenate([rng.normal(3, 0.1, 100), rng.normal(0.5, 0.1, 20), [3.0], rng.normal(0.5, 0.1, 30), [3.0]])
    for step, loss in enumerate(losses, 1):
        journal.update(step, update_of(loss))
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl") if "spike" in line] == [len(losses)]
    assert len(journal.history.recent) == 50


SPIKES, SKIPPED = (30, 31, 75, 110), (5, 76, 77)


@pytest.mark.parametrize(("share", "expected"), [(0.95, 2.0 + 3.0), (0.5, 2.0), (1.0, 2.0 + 3.0 + 5.0)])
def test_seconds_to_a_share_of_the_best_epochs_accuracy(share, expected):
    """Of 80 %, 95 % are 76 %, which the second epoch has; the last is no longer so good."""
    history = History(val_accuracy=[0.7, 0.76, 0.8, 0.6], epoch_seconds=[2.0, 3.0, 5.0, 7.0], best_epoch=3)
    assert history.seconds_to(share) == pytest.approx(expected)
    assert replace(history, epoch_seconds=[5.0, 7.0]).seconds_to(share) is None  # of a checkpoint without times


@pytest.fixture
def whole(tmp_path):
    journal = Journal(History(), PER_EPOCH, CLASSES, tmp_path / "whole.jsonl", None)
    train(journal, falling_losses(SPIKES, SKIPPED))
    return journal.history, tmp_path / "whole.jsonl"


def test_spikes_and_updates_left_out_are_marked_and_counted_by_epoch(whole):
    history, path = whole
    updates = [line for line in lines_of(path) if "step" in line]
    assert [line["step"] - 1 for line in updates if line.get("spike") is True] == list(SPIKES)
    assert [line["step"] - 1 for line in updates if line.get("skipped") is True] == list(SKIPPED)
    assert all(
        line["batch/train_loss"] is None and line["nonfinite"] == ["batch/train_loss"]
        for line in updates
        if "skipped" in line
    )
    assert (history.spikes, history.skipped) == ([2, 2], [1, 2])
    assert history.first_skipped == "at step 6 (loss)"
    losses = falling_losses(SPIKES, SKIPPED).reshape(2, PER_EPOCH)
    assert history.train_loss == pytest.approx(np.nanmean(losses, axis=1), rel=1e-12)


@pytest.mark.parametrize("step", [6, 31, 60, 61, 78])
def test_stopped_anywhere_and_gone_on_with_from_json(whole, tmp_path, step):
    losses, path = falling_losses(SPIKES, SKIPPED), tmp_path / "parts.jsonl"
    first = Journal(History(), PER_EPOCH, CLASSES, path, None)
    train(first, losses[:step])
    saved = json.dumps(asdict(first.history), allow_nan=False)
    for extra in range(3):  # updates after the save that nobody will remember
        first.update(step + extra + 1, update_of(2.9))
    second = Journal(History(**json.loads(saved)), PER_EPOCH, CLASSES, path, None)
    train(second, losses, start=step)
    assert path.read_bytes() == whole[1].read_bytes()
    ours, theirs = asdict(second.history), asdict(whole[0])
    assert ours == theirs


@pytest.mark.parametrize("step", [6, 60, 78])
def test_event_files_of_a_run_that_went_on_are_those_of_a_whole_one(tmp_path, step):
    """With the numbers that are not finite, which metrics.jsonl has as null."""
    losses, whole, parts = falling_losses(SPIKES, SKIPPED), tmp_path / "whole", tmp_path / "parts"
    tracker = TensorBoardTracker(whole, pytest.fail)
    train(Journal(History(), PER_EPOCH, CLASSES, whole / "metrics.jsonl", tracker), losses)
    assert tracker.finish()
    tracker = TensorBoardTracker(parts, pytest.fail)
    first = Journal(History(), PER_EPOCH, CLASSES, parts / "metrics.jsonl", tracker)
    train(first, losses[:step])
    saved = json.dumps(asdict(first.history))
    first.update(step + 1, update_of(2.9))
    tracker.finish()
    tracker = TensorBoardTracker(parts, pytest.fail)
    train(
        Journal(History(**json.loads(saved)), PER_EPOCH, CLASSES, parts / "metrics.jsonl", tracker), losses, start=step
    )
    assert tracker.finish()
    ours, theirs = events_in(parts), events_in(whole)
    assert len(theirs.Scalars("batch/train_loss")) == len(losses)
    assert ours.Tags() == theirs.Tags()
    for name in theirs.Tags()["scalars"]:
        np.testing.assert_array_equal(scalars(ours, name), scalars(theirs, name))


# What is told


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_of_logits_that_are_not_finite_are_not_numbers(bad):
    logits = np.zeros((5, CLASSES), np.float32)
    logits[3, 1] = bad
    scores = score(logits, np.zeros(5, int))
    assert all(map(math.isnan, (scores.loss, scores.accuracy, scores.macro_f1)))
