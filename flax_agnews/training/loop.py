"""Trains runs of a strategy with one or several seeds together, and evaluates their best weights on the test split."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from flax_agnews.models.parameters import Parameters
from flax_agnews.training import memory
from flax_agnews.training.group import AllDiverged, Group
from flax_agnews.training.history import History, Scores, score
from flax_agnews.training.lane import Lane
from flax_agnews.training.observer import Observer
from flax_agnews.training.program import Program
from flax_agnews.training.saving import Saving
from flax_agnews.training.updates import train_epochs


@dataclass
class TrainedRun:
    """A run that has been trained and tested.

    Attributes:
        history: the run's numbers by epoch.
        test: scores on the test split, with the weights of the epoch that is best on validation.
        params: path -> array of these weights, the trainable leaves.
        logits: [texts, classes], logits of the test split with these weights.
        val_logits: the same of the validation split.
    """

    history: History
    test: Scores
    params: Parameters
    logits: np.ndarray
    val_logits: np.ndarray

    @property
    def totals(self) -> dict[str, float]:
        """Numbers of the whole run, under the names that trackers get."""
        tested = {"test/loss": self.test.loss, "test/accuracy": self.test.accuracy}
        return {**tested, "total_train_time": self.history.train_seconds}


def train_runs(
    program: Program,
    lanes: Sequence[Lane],
    epochs: int,
    *,
    saving: Saving | None = None,
    observer: Observer | None = None,
) -> list[TrainedRun | None]:
    """Trains and tests runs of a strategy, from their newest checkpoints if there are any.

    Returns None for a run that stopped because numbers were not finite; its `Lane.fault` says where. Once all runs of
    the group have a fault, nothing more is saved.

    Args:
        program: the compiled strategy.
        lanes: the runs; as many as the program was compiled for.
        epochs: number of passes over the training texts.
        saving: when to save checkpoints; never by default.
        observer: receives progress, and may interrupt.

    Raises:
        Interrupted: `observer` asked to stop; the state is saved.
        UserError: a save failed, and `saving` stops then.
    """
    group = train_group(program, lanes, epochs, saving=saving, observer=observer)
    tested = [_test(group, number) for number in range(len(lanes))]
    if saving:
        saving.wait()  # after the tests, which run while the last checkpoint is written
    return tested


def train_group(
    program: Program,
    lanes: Sequence[Lane],
    epochs: int,
    *,
    saving: Saving | None = None,
    observer: Observer | None = None,
) -> Group:
    """As `train_runs`, without the test; each run's numbers are in the `history` of its lane.

    A save may still be in progress afterwards.
    """
    memory.reset_peak()
    group = Group(program, lanes)
    with suppress(AllDiverged):
        train_epochs(group, epochs, saving, observer or Observer())
    return group


def _test(group: Group, number: int) -> TrainedRun | None:
    """Tests a run's best weights; None where the run failed or its test logits aren't finite."""
    program, lane, (state, frozen) = group.program, group.lanes[number], group.one(number)
    if lane.fault:
        return None
    best = lane.best(state.params, group.team)
    logits = program.evaluate(best, frozen, "test")
    tested = score(logits, program.evaluated["test"].labels)
    if math.isnan(tested.loss):
        lane.history.end(f"after epoch {lane.history.best_epoch} (test logits)")
        return None
    val_logits = lane.best_logits
    if val_logits is None:  # the best epoch was before the run was resumed
        val_logits = program.evaluate(best, frozen, "validation")
    return TrainedRun(lane.history, tested, best, logits, val_logits)
