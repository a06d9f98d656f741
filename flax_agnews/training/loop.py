"""Trains runs of a strategy from one seed or several, side by side, and tests each one's best weights."""

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
        history: numbers by epoch.
        test: scores of the best-on-validation weights on the test split.
        params: these weights, the trainable leaves.
        logits: of the test split by these weights: [texts, classes].
    """

    history: History
    test: Scores
    params: Parameters
    logits: np.ndarray

    @property
    def totals(self) -> dict[str, float]:
        """The numbers of the whole run, as trackers name them."""
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
    """Trains and tests one strategy from one seed or several, from where the checkpoints left off.

    Gives None for a run that stopped because its numbers were not finite; its `Lane.fault` says where. Nothing is saved
    of a run alone, or of a group of which none is left, from there on.

    Args:
        program: the compiled strategy.
        lanes: the runs; as many as the program was compiled for.
        epochs: passes over the training texts.
        saving: when to save the lanes' states; never by default.
        observer: for displays and interruption.

    Raises:
        Interrupted: `observer` asked to stop; the state is saved.
        UserError: a save failed, where `saving` stops then.
    """
    group = train_group(program, lanes, epochs, saving=saving, observer=observer)
    return [_test(group, number) for number in range(len(lanes))]


def train_group(
    program: Program,
    lanes: Sequence[Lane],
    epochs: int,
    *,
    saving: Saving | None = None,
    observer: Observer | None = None,
) -> Group:
    """As `train_runs`, without the test: each run's numbers are in its lane."""
    memory.reset_peak()
    group = Group(program, lanes)
    with suppress(AllDiverged):
        train_epochs(group, epochs, saving, observer or Observer())
    if saving:
        saving.wait()
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
    return TrainedRun(lane.history, tested, best, logits)
