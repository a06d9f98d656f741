"""Runs, from top to bottom: train an epoch, evaluate it, keep the best; save now and then; at the end, test the best.

Runs of one strategy from several seeds may train side by side in one program; one run alone is a group of one.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_agnews.models.parameters import Parameters
from flax_agnews.training import memory
from flax_agnews.training.group import AllDiverged, Group, Lane
from flax_agnews.training.history import History, Scores, score
from flax_agnews.training.program import Program
from flax_agnews.training.saving import Saving
from flax_agnews.training.state import TrainState


class Interrupted(Exception):
    """Runs were asked to stop, and have saved where they were.

    Attributes:
        step: updates that are saved; 0 where nothing could be.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Watch:
    """What runs that train together tell those who look on; the default is silence."""

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """After every update; the tokens of all runs."""

    def epoch(self, epoch: int, histories: Sequence[History]) -> None:
        """After every epoch's evaluation, with each run's history; that of a run that ended before stays as it was."""

    def ended(self, number: int, history: History) -> None:
        """When the run of that number ends early; after the call of `epoch` for its last one."""

    def resumed(self, step: int, inexact: str | None) -> None:
        """When a saved state is taken up; `inexact` says why what follows isn't exact to the last digit."""

    def should_stop(self) -> bool:
        """Whether to save and stop after this update."""
        return False


@dataclass
class Run:
    """A finished run.

    Attributes:
        history: by epoch.
        test: scores of the best-on-validation weights on the test split.
        params: these weights, the trainable leaves.
        logits: theirs, of the test split: [texts, classes].
    """

    history: History
    test: Scores
    params: Parameters
    logits: np.ndarray


def fit(
    program: Program, lanes: Sequence[Lane], epochs: int, *, saving: Saving | None = None, watch: Watch | None = None
) -> list[Run | None]:
    """Trains one strategy from one seed or several, from where the checkpoints left off.

    Gives None for a run that stopped because its numbers were not finite; its `Lane.fault` says where. Nothing is saved
    of a run alone, or of a group of which none is left, from there on.

    Args:
        program: the compiled strategy.
        lanes: the runs; as many as the program was compiled for.
        epochs: passes over the training texts.
        saving: when to save the lanes' states; never by default.
        watch: for displays and interruption.

    Raises:
        Interrupted: `watch` asked to stop; the state is saved.
    """
    group = train(program, lanes, epochs, saving=saving, watch=watch)
    return [_test(program, lane, *group.one(number)) for number, lane in enumerate(lanes)]


def train(
    program: Program, lanes: Sequence[Lane], epochs: int, *, saving: Saving | None = None, watch: Watch | None = None
) -> Group:
    """As `fit`, without the test: what becomes of each run is in its lane."""
    watch = watch or Watch()
    memory.reset_peak()
    group = Group(program, lanes)
    if group.step:
        watch.resumed(group.step, group.inexact)
    if saving:
        saving.begin(group.bytes)
    with suppress(AllDiverged):
        group.check()
        for epoch in range(group.step // program.batches.steps_per_epoch, epochs):
            if group.over:
                break
            _train_epoch(group, epoch, saving, watch)
            going = [number for number, lane in enumerate(lanes) if not lane.ended]
            for number in going:
                _end_epoch(group, number)
            watch.epoch(epoch + 1, [lane.history for lane in lanes])
            for number in going:
                if lanes[number].ended and epoch + 1 < epochs:
                    watch.ended(number, lanes[number].history)
            due = saving and (saving.due(group.step) if epoch + 1 < epochs else saving.final)
            if saving and due and not group.over:
                group.save(saving)
    if saving:
        saving.wait()
    return group


def _train_epoch(group: Group, epoch: int, saving: Saving | None, watch: Watch) -> None:
    """The updates of an epoch that are still to do. Each update's metrics are read while the next one runs."""
    per_epoch = group.program.batches.steps_per_epoch
    before, tokens, seconds = time.perf_counter(), 0, 0.0
    waiting: tuple[int, Mapping[str, Any]] | None = None
    for index in range(group.step - epoch * per_epoch, per_epoch):
        values = group.update(epoch, index)
        if waiting:
            group.read(*waiting)
        waiting = (group.step, values)
        stop, last = watch.should_stop(), index == per_epoch - 1
        due = saving and not last and saving.due(group.step)
        if stop or due or last:  # everything is read, so that the saved history is complete
            group.read(*waiting)
            waiting = None
        elapsed = time.perf_counter() - before
        before, seconds, tokens = before + elapsed, seconds + elapsed, tokens + group.count(epoch, index, elapsed)
        watch.step(epoch + (index + 1) / per_epoch, tokens / seconds)
        if stop and not last:
            raise Interrupted(_saved(group, saving))
        if saving and due:
            group.save(saving)
            before = time.perf_counter()


def _saved(group: Group, saving: Saving | None) -> int:
    """Saves the group now; its step, or 0 where that failed."""
    if saving:
        group.save(saving)
    return group.step if saving and saving.wait() else 0


def _end_epoch(group: Group, number: int) -> None:
    """Evaluates a run, keeps its weights if they are its best so far."""
    program, lane, (state, frozen) = group.program, group.lanes[number], group.one(number)
    logits = program.evaluate(state.params, frozen, "validation")
    better = lane.journal.epoch(score(logits, program.evaluated["validation"].labels))
    group.check()
    if better:
        lane.keep_best(state.params)
    peaks = (lane.history.peak_memory_bytes or 0, memory.peak_bytes(program.devices.here) or 0)
    lane.history.peak_memory_bytes = max(peaks) or None


def _test(program: Program, lane: Lane, state: TrainState, frozen: Parameters) -> Run | None:
    """Tests a run's best weights, unless it has a fault, or this is one."""
    if lane.fault:
        return None
    best = lane.best(state.params)
    logits = program.evaluate(best, frozen, "test")
    tested = score(logits, program.evaluated["test"].labels)
    if math.isnan(tested.loss):
        lane.history.end(f"after epoch {lane.history.best_epoch} (test logits)")
        return None
    return Run(lane.history, tested, best, logits)
