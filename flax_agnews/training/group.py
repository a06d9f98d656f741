"""Runs of a strategy, a seed each, that train together in one compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flax_agnews.models.parameters import Parameters
from flax_agnews.training import memory
from flax_agnews.training.checkpoint import all_finite, newest, snapshot
from flax_agnews.training.history import History, score
from flax_agnews.training.lane import Lane
from flax_agnews.training.observer import Observer
from flax_agnews.training.program import Program
from flax_agnews.training.saving import Refused, Saving, Sign, Write
from flax_agnews.training.state import TrainState, stack


class AllDiverged(Exception):
    """The numbers of all runs that train together, except those that ended early, are not finite any more."""


class Group:
    """Runs that train together, from the newest state that all of them have saved.

    A run that has a fault is computed, noted and saved like the others as long as one of them has none, so that all
    can be resumed from one step; it is no result in the end. So is one that has ended early, but for being noted.

    Args:
        program: the compiled strategy.
        lanes: the runs.

    Attributes:
        step: updates so far.
        state, frozen: of all runs, as `Program.start_together` has them.
        inexact: why what follows a resumed state isn't exact to the last digit; None where it is.
    """

    inexact: str | None = None

    def __init__(self, program: Program, lanes: Sequence[Lane]) -> None:
        self.program, self.lanes, self.team = program, lanes, program.devices.team
        self.seeds = [lane.seed for lane in lanes]
        self.state, self.frozen = program.start_together(self.seeds)
        self.step = self.team.of_first(self._newest() if self.team.is_first else 0)
        histories = self._restore() if self.step else [History() for _ in lanes]
        settled = max((span.first for span in program.setup.spans), default=0)
        for lane, history in zip(lanes, histories, strict=True):
            lane.begin(history, program.batches.steps_per_epoch, program.setup.model.classes, settled)

    def _newest(self) -> int:
        """The newest step after which all runs have an undamaged state; what only some have after it is dropped."""
        stores = [lane.store for lane in self.lanes if lane.store]
        step = newest(stores)
        for store in stores:
            store.drop_after(step)
        return step

    def _restore(self) -> list[History]:
        later = self.program.setup.untrained(self.step, self.program.batches.steps_per_epoch)
        examples = [self.one(number)[0] for number in range(len(self.lanes))]
        pairs = list(zip(self.lanes, examples, strict=True))
        saved = self.team.first_before_others(
            lambda: [lane.resume(self.step, example, later) for lane, example in pairs]
        )
        self.state = self.program.devices.state(stack([state for state, _, _ in saved]))
        self.inexact = next((reason for _, _, reason in saved if reason), None)
        return [history for _, history, _ in saved]

    def update(self, epoch: int, index: int) -> dict[str, Any]:
        """Makes the update `index` of an epoch in every run; its metrics stay on the device until `read` has them."""
        self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, epoch, index)
        self.step += 1
        return metrics

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return self.program.batches.steps_per_epoch

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Notes an update's time, an equal share for each run that goes on, and its tokens; returns those of all."""
        batches, counts = self.program.batches, []
        going = self.going
        for lane in going:
            counts.append(int(self.program.lengths[batches.rows(lane.seed, epoch, index)].sum()))
            lane.history.tokens += counts[-1]
            lane.history.train_seconds += seconds / len(going)
        return sum(counts)

    @property
    def going(self) -> list[Lane]:
        """The runs that haven't ended early."""
        return [lane for lane in self.lanes if not lane.ended]

    @property
    def over(self) -> bool:
        """Whether none of the runs goes on."""
        return all(lane.over for lane in self.lanes)

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes an update's metrics into the journal of each run that goes on; `step` counts from 1.

        Raises:
            AllDiverged: all of these have a fault.
        """
        values = {name: np.atleast_1d(value) for name, value in metrics.items()}
        for number, lane in enumerate(self.lanes):
            if not lane.ended:
                lane.journal.update(step, {name: value[number] for name, value in values.items()})
        if self.over:
            raise AllDiverged

    def end_epoch(self, epoch: int, last: bool, observer: Observer) -> None:
        """Evaluates every run that goes on, and says so; `last` of the epochs that are planned.

        Raises:
            AllDiverged: every run has a fault: nothing may be saved any more.
        """
        going = [number for number, lane in enumerate(self.lanes) if not lane.ended]
        for number in going:
            self._evaluate(number)
        observer.epoch(epoch + 1, [lane.history for lane in self.lanes])
        for number in going:
            if self.lanes[number].ended and not last:
                observer.ended(number, self.lanes[number].history)

    def _evaluate(self, number: int) -> None:
        """Evaluates a run on the validation split, and keeps its weights if they are its best so far."""
        program, lane, (state, frozen) = self.program, self.lanes[number], self.one(number)
        logits = program.evaluate(state.params, frozen, "validation")
        better = lane.journal.epoch(score(logits, program.evaluated["validation"].labels))
        if all(lane.fault for lane in self.lanes):
            raise AllDiverged
        if better:
            lane.keep_best(state.params)
        peaks = (lane.history.peak_memory_bytes or 0, memory.peak_bytes(program.devices.here) or 0)
        lane.history.peak_memory_bytes = max(peaks) or None

    def one(self, number: int) -> tuple[TrainState, Parameters]:
        """(state, frozen) of one of the runs, as they would be alone on one device."""
        return self.program.alone(self.state, self.frozen, number, len(self.lanes))

    @property
    def bytes(self) -> int:
        """Size of a checkpoint of all runs."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def save(self, saving: Saving) -> None:
        """Saves a checkpoint of every run, in the background."""
        saving.save(f"step {self.step}", self._copies)

    def _copies(self) -> list[Write]:
        """The calls that write; refused where a strategy's own transformation made weights that aren't finite."""
        writes: list[Write] = []
        for number, lane in enumerate(self.lanes):
            if lane.store and lane.writes:
                state = snapshot(self.one(number)[0])
                if not all_finite(state.params) and not lane.over:
                    return [_refuse]
                writes += lane.writing(lane.store, state)
        return writes


def _refuse(sign: Sign) -> None:
    raise Refused("its weights are not finite")
