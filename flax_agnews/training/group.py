"""Runs of a strategy with different seeds that train together in one compiled program."""

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
    """Raised when all runs that train together, except those that ended early, have a fault (non-finite numbers)."""


class Group:
    """Runs that train together, resumed from the newest state that all of them have saved.

    A run with a fault is computed, logged and saved like the others as long as any run has none, so that all can be
    resumed from the same step; it gives no result in the end. A run that has ended early is computed and saved too, but
    not logged.

    Args:
        program: the compiled strategy.
        lanes: the runs.

    Attributes:
        program, lanes: as given.
        team: the processes that train.
        seeds: seeds of the runs.
        step: number of updates so far.
        state, frozen: of all runs, as `Program.start_together` gives them.
        inexact: why the numbers after resuming may differ in the last digits; None if they don't.
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
        """The newest step at which all runs have an undamaged state; removes later states, which only some have."""
        stores = [lane.store for lane in self.lanes if lane.store]
        step = newest(stores)
        for store in stores:
            store.drop_after(step)
        return step

    def _restore(self) -> list[History]:
        """Reads the state at `self.step`; returns the runs' histories until then."""
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
        """Makes the update `index` of an epoch in every run; metrics stay on the device until `read` fetches them."""
        self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, epoch, index)
        self.step += 1
        return metrics

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates per epoch."""
        return self.program.batches.steps_per_epoch

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Records an update's time (in equal shares) and tokens in each unended run; returns the tokens of all."""
        batches, counts = self.program.batches, []
        going = self.going
        for lane in going:
            counts.append(int(self.program.lengths[batches.rows(lane.seed, epoch, index)].sum()))
            lane.history.tokens += counts[-1]
            lane.history.train_seconds += seconds / len(going)
        return sum(counts)

    @property
    def going(self) -> list[Lane]:
        """Runs that haven't ended early."""
        return [lane for lane in self.lanes if not lane.ended]

    @property
    def over(self) -> bool:
        """Whether every run has ended early or has a fault."""
        return all(lane.over for lane in self.lanes)

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes an update's metrics into the journal of each run that hasn't ended; `step` counts from 1.

        Raises:
            AllDiverged: no run is left that has neither ended nor a fault.
        """
        values = {name: np.atleast_1d(value) for name, value in metrics.items()}
        for number, lane in enumerate(self.lanes):
            if not lane.ended:
                lane.journal.update(step, {name: value[number] for name, value in values.items()})
        if self.over:
            raise AllDiverged

    def end_epoch(self, epoch: int, last: bool, observer: Observer) -> None:
        """Evaluates every run that hasn't ended early, and reports the epoch.

        Args:
            epoch: number of the epoch, from 0.
            last: whether it is the last planned epoch.
            observer: receives the results.

        Raises:
            AllDiverged: every run has a fault; nothing may be saved any more.
        """
        going = [number for number, lane in enumerate(self.lanes) if not lane.ended]
        for number in going:
            self._evaluate(number)
        observer.epoch(epoch + 1, [lane.history for lane in self.lanes])
        for number in going:
            if self.lanes[number].ended and not last:
                observer.ended(number, self.lanes[number].history)

    def _evaluate(self, number: int) -> None:
        """Evaluates a run on the validation split, and copies its weights if they are its best so far."""
        program, lane, (state, frozen) = self.program, self.lanes[number], self.one(number)
        logits = program.evaluate(state.params, frozen, "validation")
        better = lane.journal.epoch(score(logits, program.evaluated["validation"].labels))
        if all(lane.fault for lane in self.lanes):
            raise AllDiverged
        if better:
            lane.keep_best(state.params, logits)
        devices = program.devices
        peak = memory.peak_bytes(devices.here, process=not devices.beside)
        peaks = (lane.history.peak_memory_bytes or 0, peak or 0)
        lane.history.peak_memory_bytes = max(peaks) or None

    def one(self, number: int) -> tuple[TrainState, Parameters]:
        """(state, frozen) of one run, as for a run alone on one device."""
        return self.program.alone(self.state, self.frozen, number, len(self.lanes))

    @property
    def bytes(self) -> int:
        """Size of a checkpoint of all runs, in bytes."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def save(self, saving: Saving) -> None:
        """Saves a checkpoint of every run, in the background."""
        saving.save(f"step {self.step}", self._copies)

    def _copies(self) -> list[Write]:
        """Copies the states and returns the calls that write them; refuses non-finite weights."""
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
